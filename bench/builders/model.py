"""What the bench asks of a builder.

No I/O.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class BuildFailed(Exception):
    """What the builder said."""


@dataclass(frozen=True, slots=True)
class Task:
    """One build: ``image`` and ``cache`` are repositories, the latter "" without a cache; the image's tag is 1.

    ``store`` is a folder that builds of the same workload share, None for builds that start from nothing. ``bases`` are
    the images that the Dockerfile starts from. With ``profile`` the builder is to tell where its time goes.
    """

    context: Path
    image: str
    cache: str = ""
    store: Path | None = None
    bases: Sequence[str] = ()
    profile: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """Where a builder works: the registry's address, and an empty folder that everything it writes must be in."""

    host: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """HOME and temporary files are below the folder too."""
        for name in ("home", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)
        return {**os.environ, "HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp")}


@dataclass(frozen=True, slots=True)
class Commands:
    """What is measured, one after the other. ``before`` runs before the clock."""

    lines: Sequence[Sequence[str]]
    environment: Mapping[str, str]
    before: Sequence[Sequence[str]] = ()


@dataclass(frozen=True, slots=True)
class Spent:
    """A part of a build's time, for ``--profile``."""

    what: str
    seconds: float
    more: str = ""


class Worker(Protocol):
    """A builder that is ready: its daemon runs, if it has one."""

    @property
    def programs(self) -> Sequence[Path]:
        """Its own programs, whose memory is the builder's and not that of a RUN."""

    def commands(self, task: Task) -> Commands: ...

    def profile(self, output: str) -> list[Spent]:
        """Where the time of the last build went, of its output."""


class Builder(Protocol):
    def left_out(self) -> str:
        """Why it can't be measured here; "" if it can."""

    def ready(self, site: Site) -> AbstractContextManager[Worker]: ...


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A builder that can't be measured."""

    why: str

    def left_out(self) -> str:
        return self.why

    def ready(self, site: Site) -> AbstractContextManager[Worker]:
        raise AssertionError(self.why)
