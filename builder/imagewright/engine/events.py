"""Events of a running build, and the protocol that the terminal, the plain log and the JSON log implement.

No I/O but reading clocks. The engine calls a reporter from several threads (layers download in parallel), so an
implementation needs a lock. Sizes are in bytes, durations in seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

from imagewright.dockerfile.model import DockerfileWarning
from imagewright.errors import ImagewrightError, Location
from imagewright.records import dataclass

TransferKind = Literal["pull", "push"]
PhaseKind = Literal[
    "sandbox",  # choosing and starting it
    "check push",
    "fetch",  # a context
    "parse",  # the Dockerfile
    "plan",
    "resolve",  # a base image
    "download",  # a layer
    "inflate",
    "unpack",
    "index",  # a layer that is not unpacked
    "apply",  # an index
    "look up",  # a step in the layer cache
    "move",  # the files of one stage to another
    "copy",
    "run",
    "scan",  # for changes
    "compare",  # changed files with those of lower layers
    "pack",
    "compress",
    "store",  # waiting until the layer cache has everything
    "write",  # archives and layouts
    "push",
    "clean up",
]


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step of a stage begins. ``stage`` and ``step`` count from 1, in execution order."""

    stage: int
    stages: int
    stage_label: str
    step: int
    steps: int
    title: str
    location: Location

    @property
    def name(self) -> str:
        """``build 2/3``: short and unique."""
        return f"{self.stage_label} {self.step}/{self.steps}"

    @property
    def label(self) -> str:
        """``[build 2/3] RUN …``, as in BuildKit."""
        return f"[{self.name}] {self.title}"


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step has ended. ``layer_size`` is 0 if it added no layer, ``error`` None if it succeeded.

    The error's reason is ``Cancelled`` if a signal or the failure of another stage ended the step.

    ``cached``: its layer is from the cache, and nothing was executed.
    """

    started: StepStarted
    seconds: float
    layer_size: int = 0
    error: ImagewrightError | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Transfer:
    """Progress of a blob. ``total`` is 0 if unknown; ``done`` never decreases; the last event has ``finished``.

    A push that is finished with nothing done sent nothing: the repository has the blob, or mounted it from another.
    """

    kind: TransferKind
    name: str
    done: int
    total: int
    finished: bool = False

    @property
    def is_needless(self) -> bool:
        """Whether nothing was sent."""
        return self.kind == "push" and self.finished and not self.done


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a build's work has ended, in the thread that reports it; phases of one thread are nested.

    ``name`` is what it worked on, ``""`` where that is clear. ``begin`` is of ``time.monotonic``. ``cpu_seconds`` is
    the thread's own processor time, without that of other threads and processes. ``size`` is 0 if it has none.

    There are few of them: their number depends on the steps and layers of a build, never on its files or bytes.
    """

    kind: PhaseKind
    name: str
    begin: float
    seconds: float
    cpu_seconds: float
    size: int = 0


class Reporter(Protocol):
    """Receives everything that a build reports, in order. Steps of several stages may run at the same time."""

    def message(self, text: str) -> None:
        """One line of information, for example the sandbox and its reason, or a base image's digest."""

    def warning(self, text: str) -> None:
        """Something valid that was probably not intended."""

    def lint(self, warning: DockerfileWarning) -> None:
        """A warning with a location in the Dockerfile."""

    def debug(self, text: str) -> None:
        """One line for ``--verbosity debug``."""

    def step_started(self, step: StepStarted) -> None: ...

    def output(self, step: StepStarted, data: bytes) -> None:
        """A piece of a command's output, stdout and stderr together, cut anywhere."""

    def step_ended(self, step: StepEnded) -> None: ...

    def transfer(self, transfer: Transfer) -> None:
        """A layer's progress. Called often: an implementation decides how often to draw it."""

    def phase(self, phase: Phase) -> None:
        """For ``--timings``; displays show none of them."""

    def close(self) -> None:
        """Flush, and restore the terminal. Called once, whatever happened."""


@contextmanager
def timed(reporter: Reporter, kind: PhaseKind, name: str = "", size: int = 0) -> Iterator[None]:
    """Report what is done inside as a phase, also if it fails."""
    begin, cpu = time.monotonic(), time.thread_time()
    try:
        yield
    finally:
        reporter.phase(Phase(kind, name, begin, time.monotonic() - begin, time.thread_time() - cpu, size))
