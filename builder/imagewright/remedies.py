"""Remedies with two names: a flag of the command line, and the field of an ImageBuild that does the same. No I/O.

A hint names both, ``with --insecure-registry HOST (ImageBuild: spec.registries[].insecure)``. In the Pod of an
ImageBuild there is no command line to change: there the field comes first.
"""

from __future__ import annotations

import re

_FLAG = r"(?:--[a-z][a-z-]*(?:=\S+| [^\s(]+)?|docker login)"
_BOTH = re.compile(rf"(?P<flags>{_FLAG}(?: or {_FLAG})*) \(ImageBuild: (?P<field>[^()]+)\)")


def for_imagebuild(hint: str) -> str:
    """The hint for the owner of an ImageBuild: with the field in the place of the flag, and the flag after it."""
    return _BOTH.sub(r"\g<field> (command line: \g<flags>)", hint)
