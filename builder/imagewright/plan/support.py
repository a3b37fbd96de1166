"""What the reference has and this version refuses, all in one place: each is named with its line.

No I/O. Called by ``plan.stage`` for every instruction of a stage that is needed. What is built later is removed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from imagewright.dockerfile.model import Add, Copy, Instruction, Run
from imagewright.dockerfile.source import SourceText
from imagewright.errors import Location, UnsupportedError

_URL = re.compile(r"(?:https?|git|ssh)://", re.IGNORECASE)
_SCP_GIT = re.compile(r"[\w.-]+@[\w.-]+:")
_WITHOUT = "Write the instruction without it; a later version will do it."


def check_instruction(instruction: Instruction, source: SourceText) -> None:
    """Refuse an instruction that uses something this version does not do.

    Raises:
        UnsupportedError: names the instruction, the flag and the line.
    """
    for what, word, hint in _unsupported(instruction):
        raise refusal(what, source, instruction.location, word, hint)


def check_sources(instruction: Add | Copy, sources: Sequence[str], source: SourceText) -> None:
    """Refuse remote sources, once their variables are expanded.

    Raises:
        UnsupportedError: ADD from a URL or a git repository.
        DockerfileError: COPY from a URL, which no version will do.
    """
    for path in sources:
        if not (_URL.match(path) or _SCP_GIT.match(path)):
            continue
        if isinstance(instruction, Copy):
            hint = "COPY takes files of the context; ADD takes URLs."
            raise source.error(f"COPY: {path[:200]} is a URL", instruction.location, word=path, hint=hint)
        is_git = not path.lower().startswith(("http://", "https://")) or ".git" in path
        what = "ADD from a git repository" if is_git else "ADD from a URL"
        raise refusal(
            what, source, instruction.location, path, "Fetch it in a RUN step, or put it into the build context."
        )


def refusal(what: str, source: SourceText, location: Location, word: str = "", hint: str = "") -> UnsupportedError:
    """The one error for all of them."""
    return source.unsupported(f"{what} is not supported yet", location, word=word, hint=hint or _WITHOUT)


def _unsupported(instruction: Instruction) -> Iterator[tuple[str, str, str]]:
    """What is refused, the word to point at, a hint."""
    match instruction:
        case Run():
            yield from _run(instruction)
        case Add():
            if instruction.checksum:
                yield "ADD --checksum", "--checksum", ""
            if instruction.keep_git_dir is not None:
                yield "ADD --keep-git-dir", "--keep-git-dir", ""
        case _:
            return


def _run(run: Run) -> Iterator[tuple[str, str, str]]:
    if run.security not in ("", "sandbox"):
        hint = "Builds run without privilege by design: there is nothing that could grant it."
        yield f"RUN --security={run.security}", "--security", hint
    if run.devices:
        yield "RUN --device", "--device", ""
