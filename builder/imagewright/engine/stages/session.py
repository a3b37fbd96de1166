"""What the stages of one build share, grouped by what uses it.

No I/O.
"""

from __future__ import annotations

import threading

from imagewright.cache.layers import LayerCache
from imagewright.engine.layers import LayerOptions
from imagewright.engine.stages.steplog import StepLog
from imagewright.engine.steps.copying import CopyExecutor
from imagewright.engine.steps.origins import Origins, StageState
from imagewright.engine.steps.run import Root, RunExecutor
from imagewright.engine.uploads import LayerUploads
from imagewright.plan.model import BuildPlan
from imagewright.records import dataclass


class StageReaders:
    """Which unfinished stages read the files of each stage. May be used from several threads."""

    def __init__(self, plan: BuildPlan) -> None:
        self._needs = {stage.index: stage.needs for stage in plan.stages}
        self._readers: dict[int, set[int]] = {stage.index: set() for stage in plan.stages}
        for index, needs in self._needs.items():
            for needed in needs:
                self._readers[needed].add(index)
        self._lock = threading.Lock()

    def has_any(self, index: int, besides: int | None = None) -> bool:
        """Whether the files of the stage ``index`` are still needed, by another stage than ``besides``."""
        with self._lock:
            return bool(self._readers[index] - {besides})

    def finished(self, index: int) -> None:
        """A stage has ended: it reads no files any more."""
        with self._lock:
            for needed in self._needs[index]:
                self._readers[needed].discard(index)


@dataclass(frozen=True, slots=True)
class Session:
    """Shared by all stages of a build."""

    plan: BuildPlan
    origins: Origins  # what steps read
    readers: StageReaders
    layers: LayerOptions  # what they write
    runs: RunExecutor
    copies: CopyExecutor
    steps: StepLog
    cache: LayerCache | None = None  # None: every step is executed
    build_root: Root | None = None  # where stages with a RUN are built, in the sandbox that needs it
    uploads: LayerUploads | None = None  # None: nothing is uploaded before the end

    def finish(self, state: StageState) -> None:
        """A stage has succeeded: others can read its files."""
        self.origins.stages[state.plan.index] = state
        self.readers.finished(state.plan.index)
