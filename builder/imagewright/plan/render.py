"""A plan as text a person reads: ``imagewright plan`` prints it, and the cases under tests/ compare it.

No I/O.
"""

from __future__ import annotations

from imagewright.plan.model import BuildPlan


def render(plan: BuildPlan) -> str:
    """The plan as lines, stages in execution order."""
    return "".join(f"stage {stage.index}\n" for stage in plan.stages)
