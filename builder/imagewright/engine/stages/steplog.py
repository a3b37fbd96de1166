"""The steps of a build as its user sees them: to the reporter while they run, and in the build's result.

No I/O but through the reporter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import field
from datetime import UTC, datetime
from threading import Event

from imagewright.contract import timestamp
from imagewright.contract.result import StepResult
from imagewright.dockerfile.source import excerpt
from imagewright.dockerfile.substitutions import VALUES_HINT
from imagewright.engine.events import Reporter, StepEnded, StepStarted
from imagewright.errors import ImagewrightError, Interruption, Reason, StepError
from imagewright.plan.steps import RunStep, Step
from imagewright.records import dataclass

_CANCELLED = "cancelled: another stage failed"


def cancelled() -> ImagewrightError:
    """The error of a stage that ends because another one failed."""
    return ImagewrightError(_CANCELLED, reason=Reason.CANCELLED)


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """``layer_size`` is in bytes, 0 without a layer. ``cache_miss`` is why a lookup failed, "" if there was none."""

    layer_size: int = 0
    cached: bool = False
    cache_miss: str = ""


@dataclass(frozen=True, slots=True)
class StepLog:
    """Reports the steps of all stages. ``stopped`` is set when a stage has failed, and the others are to end."""

    reporter: Reporter
    dockerfile_lines: Sequence[str]
    stopped: Event
    results: list[StepResult] = field(default_factory=list)

    def record(self, started: StepStarted, step: Step | None, action: Callable[[], StepOutcome]) -> None:
        """Call ``action`` as one step. ``step`` is None for a stage's FROM.

        Raises:
            ImagewrightError: of ``action``, with the step's location in the Dockerfile.
        """
        begin, clock = datetime.now(UTC), time.monotonic()
        exit_code: int | None = None  # of a command that has ended, by itself or not
        self.reporter.step_started(started)
        failure: ImagewrightError | None = None
        outcome = StepOutcome()
        try:
            outcome = action()
            exit_code = 0 if isinstance(step, RunStep) else None
        except ImagewrightError as error:
            failure = error
            self._complete(error, started, step)
            exit_code = error.exit_code if isinstance(error, StepError) else None
            raise
        except Interruption as signal:
            failure = signal.as_error()
            raise
        finally:
            self.results.append(
                StepResult(
                    name=started.label,
                    start_time=timestamp(begin),
                    completion_time=timestamp(datetime.now(UTC)),
                    cached=outcome.cached,
                    cache_miss=outcome.cache_miss,
                    exit_code=None if outcome.cached else exit_code,
                )
            )
            self.reporter.step_ended(
                StepEnded(started, time.monotonic() - clock, outcome.layer_size, failure, cached=outcome.cached)
            )

    def _complete(self, error: ImagewrightError, started: StepStarted, step: Step | None) -> None:
        """Add the step's location in the Dockerfile to its error."""
        if step is not None and not isinstance(error, StepError):  # a command's output stays as it is
            step.text.substitutions.restore(error, VALUES_HINT)
        if self.stopped.is_set():  # the step was ended from outside, and did not fail by itself
            error.reason, error.message, error.hint = Reason.CANCELLED, _CANCELLED, ""
        if error.location is None:
            error.location = started.location
            error.excerpt = error.excerpt or excerpt(self.dockerfile_lines, started.location)
        error.instruction = error.instruction or started.title
