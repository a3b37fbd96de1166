"""What a build tells while it runs: one Protocol that the terminal, the plain log and the JSON log each implement.

No I/O here. Called by the engine, from several threads (layers download side by side): an implementation locks.
Sizes are in bytes, durations in seconds.
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
        """``build 2/3``: short, and no other step's."""
        return f"{self.stage_label} {self.step}/{self.steps}"

    @property
    def label(self) -> str:
        """``[build 2/3] RUN …`` as people know it from BuildKit."""
        return f"[{self.name}] {self.title}"


@dataclass(frozen=True, slots=True)
class StepEnded:
    """The end of a step that began. ``layer_size`` is 0 where it added none; ``error`` is None where it succeeded.

    Its reason is ``Cancelled`` where the step was ended from outside: by a signal, or since another stage failed.

    ``cached``: its layer came from the cache, and nothing was executed.
    """

    started: StepStarted
    seconds: float
    layer_size: int = 0
    error: ImagewrightError | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Transfer:
    """A blob on its way. ``total`` is 0 where it isn't known; ``done`` never shrinks; the last call has ``finished``."""

    kind: TransferKind
    name: str
    done: int
    total: int
    finished: bool = False


class Reporter(Protocol):
    """Everything that is said of a build, in order. Steps of several stages may run at the same time."""

    def message(self, text: str) -> None:
        """One line of information: the sandbox and its reason, the commit of the source, the base image's digest."""

    def warning(self, text: str) -> None:
        """Something legal that is probably not what was meant."""

    def lint(self, warning: DockerfileWarning) -> None:
        """A warning that has a place in the Dockerfile."""

    def debug(self, text: str) -> None:
        """One line for those who ask for ``--verbosity debug``."""

    def step_started(self, step: StepStarted) -> None: ...

    def output(self, step: StepStarted, data: bytes) -> None:
        """A piece of a command's output, stdout and stderr together, cut anywhere."""

    def step_ended(self, step: StepEnded) -> None: ...

    def transfer(self, transfer: Transfer) -> None:
        """A layer's progress; called often, so an implementation draws at its own pace."""

    def close(self) -> None:
        """Draw what is left and give the terminal back. Called once, whatever happened."""
