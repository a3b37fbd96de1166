"""The result of a build, as the operator and users' scripts read it.

No I/O.
"""

from __future__ import annotations

import json
from dataclasses import field, replace
from typing import Literal

from imagewright.contract import MAX_CORE_BYTES, MAX_TERMINATION_BYTES
from imagewright.contract.coding import read, write
from imagewright.jsontext import loads
from imagewright.records import dataclass


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """One executed instruction. Times are UTC, RFC 3339 with milliseconds."""

    name: str
    start_time: str
    completion_time: str
    cached: bool = False
    cache_miss: str = ""  # why the cache had no layer for it
    exit_code: int | None = None  # of a RUN


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a build failed, as shown everywhere."""

    reason: str
    message: str
    hint: str = ""
    instruction: str = ""
    file: str = ""
    line: int = 0
    exit_code: int | None = None  # of the RUN that failed


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceResult:
    """Which context was built: a git commit, or the digest of an archive."""

    commit: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """The result of a build. ``references`` are ``name:tag@digest``, in the order of the destinations."""

    version: Literal[1] = 1
    digest: str = ""
    size: int = 0  # bytes in the registry: configuration and layers
    references: tuple[str, ...] = ()
    sandbox: str = ""
    sandbox_reason: str = ""
    source: SourceResult = field(default_factory=SourceResult)
    failure: Failure | None = None
    steps: tuple[StepResult, ...] = ()
    steps_truncated: bool = False

    def to_json(self) -> str:
        """One line of JSON without empty fields."""
        return json.dumps(write(self, defaults=False), separators=(",", ":"), ensure_ascii=False)

    def termination_message(self) -> str:
        """At most MAX_TERMINATION_BYTES: the core, cut to MAX_CORE_BYTES, then the latest steps that fit."""
        core = replace(self, steps=(), steps_truncated=False)
        limit = max(len(core.failure.message), len(core.failure.hint)) if core.failure else 0
        while len(core.to_json().encode()) > MAX_CORE_BYTES and core.failure and limit > 0:
            limit = limit * 3 // 4
            cut = replace(
                core.failure,
                message=_cut(core.failure.message, limit),
                hint=_cut(core.failure.hint, limit),
                instruction=_cut(core.failure.instruction, 200),
            )
            core = replace(core, failure=cut)
        if len(core.to_json().encode()) > MAX_CORE_BYTES:
            core = replace(core, references=core.references[:1], sandbox_reason="")
        kept = self.steps
        message = replace(core, steps=kept)
        while len(message.to_json().encode()) > MAX_TERMINATION_BYTES and kept:
            kept = kept[1:]
            message = replace(core, steps=kept, steps_truncated=True)
        return message.to_json()

    @classmethod
    def parse(cls, text: str) -> BuildResult | None:
        """The result in a termination message; None if there is none, for example because the container was killed."""
        try:
            return read(cls, loads(text))
        except (ValueError, RecursionError):
            return None
