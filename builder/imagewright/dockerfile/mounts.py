"""``RUN --mount=…``: its options, as written (Dockerfile reference, "RUN --mount").

No I/O. Called by ``dockerfile.instructions``. Values may hold variables, so ``plan.mounts`` checks them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence

from imagewright.dockerfile.model import MountOption, RunMount
from imagewright.dockerfile.source import SourceText, did_you_mean
from imagewright.errors import Location

# Every spelling of an option, and its name.
OPTIONS: Mapping[str, str] = {
    "type": "type",
    "from": "from",
    "source": "source",
    "src": "source",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "readonly": "readonly",
    "ro": "readonly",
    "readwrite": "readwrite",
    "rw": "readwrite",
    "id": "id",
    "sharing": "sharing",
    "required": "required",
    "size": "size",
    "mode": "mode",
    "uid": "uid",
    "gid": "gid",
    "env": "env",
}
_MAY_STAND_ALONE = frozenset({"readonly", "readwrite", "required"})


def read_mounts(texts: Sequence[str], source: SourceText, location: Location) -> tuple[RunMount, ...]:
    """The mounts of a RUN: of each the options, which are comma-separated values, quotes and all.

    Raises:
        DockerfileError: an unknown option, one without its value, a ``from`` with a variable.
    """
    try:
        return tuple(_mount(text) for text in texts)
    except _MountError as error:
        raise source.error(error.message, location, word=error.word, hint=error.hint) from error


class _MountError(Exception):
    """What to say, the word to point at, and a hint."""

    def __init__(self, message: str, word: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.word, self.hint = message, word, hint


def _mount(text: str) -> RunMount:
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        hint = """Quote an option that holds a comma, and all of them again: --mount='type=cache,"target=/a,b"'."""
        raise _MountError(f"--mount={text}: the quotes don't match", text, hint) from error
    return RunMount(text, tuple(_option(field) for field in fields))


def _option(field: str) -> MountOption:
    key, equals, value = field.partition("=")
    name = OPTIONS.get(key.lower())
    if name is None:
        shown = f"--mount has no option {key!r}" if key else "--mount: an option is empty"
        hint = did_you_mean(key, OPTIONS, f"The options are {', '.join(dict.fromkeys(OPTIONS.values()))}.")
        raise _MountError(shown, field or "--mount", hint)
    if not equals and name not in _MAY_STAND_ALONE:
        raise _MountError(f"--mount: {key} needs a value", field, f"Write {key}=value.")
    if name == "from" and "$" in value[:-1]:
        raise _MountError(
            f"--mount: from={value}: variables are not expanded here",
            field,
            f"Add a stage 'FROM {value} AS name' with a global ARG, and write from=name.",
        )
    return MountOption(name, value if equals else None, field)
