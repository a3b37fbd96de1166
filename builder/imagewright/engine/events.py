"""Events of a running build, and the protocol that the terminal, the plain log and the JSON log implement.

No I/O. The engine calls a reporter from several threads (layers download in parallel), so an implementation needs a
lock. Sizes are in bytes, durations in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from imagewright.dockerfile.model import DockerfileWarning
from imagewright.errors import ImagewrightError, Location

TransferKind = Literal["pull", "push"]


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
    """Progress of a blob. ``total`` is 0 if unknown; ``done`` never decreases; the last event has ``finished``."""

    kind: TransferKind
    name: str
    done: int
    total: int
    finished: bool = False


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

    def close(self) -> None:
        """Flush, and restore the terminal. Called once, whatever happened."""
