"""Remedies with two names: a flag of the command line, and the field of an ImageBuild that does the same. No I/O.

A hint names both, ``with --insecure-registry HOST (ImageBuild: spec.registries[].insecure)``. In the Pod of an
ImageBuild there is no command line to change: there the field comes first.
"""

from __future__ import annotations

_FIELD = " (ImageBuild: "
_MOST_FIELDS = 4  # of a hint; a name in it that comes from a Dockerfile may have any text
_LOGIN = ["docker", "login"]


def for_imagebuild(hint: str) -> str:
    """The hint for the owner of an ImageBuild: with the field in the place of the flag, and the flag after it."""
    shown, *parts = hint.split(_FIELD, _MOST_FIELDS)
    for part in parts:
        field, closed, rest = part.partition(")")
        words = shown.split(" ")
        start = _flags(words)
        if start == len(words) or not closed:
            shown += _FIELD + part
            continue
        flags = " ".join(words[start:])
        shown = " ".join([*words[:start], f"{field} (command line: {flags}){rest}"])
    return shown


def _flags(words: list[str]) -> int:
    """Where the flags begin that ``words`` end with, each with or without a value, with "or" between them.

    The number of words if they end with none. A hint has few fields, so that a walk over the last words is cheap.
    """
    start = end = len(words)
    while True:
        if words[max(0, end - 1) : end] and words[end - 1].startswith("--"):
            start = end - 1
        elif end >= 2 and (words[end - 2].startswith("--") or words[end - 2 : end] == _LOGIN):
            start = end - 2
        else:
            return start
        if start == 0 or words[start - 1] != "or":
            return start
        end = start - 1
