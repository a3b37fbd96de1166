"""What the status records of builds: builds, failures, logs, history; and the patch that stores it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from imagewright.contract import timestamp
from imagewright.contract.result import BuildResult
from imagewright_operator.api import Status
from imagewright_operator.api.base import Json
from imagewright_operator.api.status import (
    MAX_MESSAGE,
    MAX_STEPS,
    Build,
    FailureLocation,
    FailureStatus,
    HistoryEntry,
    Image,
    Log,
    PodIdentity,
    SourceStatus,
    Step,
)
from imagewright_operator.pods import logtail
from imagewright_operator.pods.observation import Observation, parse_time
from imagewright_operator.pods.states import EXECUTOR


def completed(
    build: Build,
    outcome: Literal["Succeeded", "Failed", "Cancelled", "Replaced"],
    failure: FailureStatus | None,
    now: datetime,
) -> Build:
    """The record of a finished build. Its end is that of the container, if known."""
    end = build.completion_time or timestamp(now)
    return build.model_copy(
        update={"outcome": outcome, "failure": failure, "completion_time": end, "not_before": "", "current_step": ""}
    )


def with_observation(build: Build, seen: Observation, result: BuildResult | None) -> Build:
    """The record updated from a Pod and, if there is one, its result."""
    known = [*([build.pod] if build.pod is not None else []), *build.earlier_pods]
    seen_first = PodIdentity(uid=seen.uid, fingerprint=seen.fingerprint)
    update: dict[str, object] = {
        "pod_names": [seen.name],
        "previous_pods": [],  # they have ended, else there was no Pod
        "pod": next((pod for pod in known if pod.uid == seen.uid), seen_first),
        "node_name": seen.node,
        "start_time": seen.started or build.start_time,
        "completion_time": seen.finished or build.completion_time,
    }
    if result is not None:
        update |= {
            "sandbox": result.sandbox,
            "sandbox_reason": clipped(result.sandbox_reason),
            "source": SourceStatus(commit=result.source.commit, digest=result.source.digest)
            if result.source.commit or result.source.digest
            else None,
            "steps": [Step.model_validate(asdict(step)) for step in result.steps[-MAX_STEPS:]],
            "steps_truncated": result.steps_truncated or len(result.steps) > MAX_STEPS,
        }
    return build.model_copy(update=update)


def failure_of(seen: Observation, result: BuildResult | None) -> FailureStatus:
    """Why the build of this Pod failed, with the place in the Dockerfile if the executor reported one."""
    reported = result.failure if result is not None else None
    same = reported is not None and reported.reason == seen.reason
    location = f"{reported.file}:{reported.line}: " if reported and same and reported.file and reported.line else ""
    return FailureStatus(
        reason=seen.reason,
        message=clipped(location + seen.message),
        instruction=reported.instruction[:500] if reported and same else "",
        file=reported.file if reported and same else "",
        line=reported.line if reported and same and reported.line else None,
        exit_code=reported.exit_code if reported and same else None,
        location=FailureLocation(pod=seen.name, container=EXECUTOR),
    )


def failure(reason: str, message: str, seen: Observation) -> FailureStatus:
    """Why the operator ends the build of this Pod."""
    location = FailureLocation(pod=seen.name, container=EXECUTOR)
    return FailureStatus(reason=reason, message=clipped(message), location=location)


def image_of(result: BuildResult) -> Image:
    """The pushed image by the first of its references."""
    return Image(reference=result.references[0] if result.references else "", digest=result.digest, size=result.size)


def log_of(seen: Observation, data: bytes, now: datetime, before: Log | None) -> Log:
    """The end of the log; ``before`` if nothing but the time has changed, so that the status is not patched."""
    text, truncated = logtail.tail(data)
    log = Log(tail=text, truncated=truncated, pod=seen.name, container=EXECUTOR, read_time=second(now))
    return before if before is not None and before.model_copy(update={"read_time": log.read_time}) == log else log


def with_history(status: Status, build: Build, digest: str, limit: int) -> list[HistoryEntry]:
    """The history with this build first, limited to ``limit`` entries."""
    entry = HistoryEntry(
        number=build.number,
        outcome=build.outcome,
        reason=build.failure.reason if build.failure else "",
        digest=digest,
        commit=build.source.commit if build.source else "",
        completion_time=build.completion_time,
        duration=duration_of(build),
    )
    return [entry, *(old for old in status.history if old.number != build.number)][:limit]


def duration_of(build: Build) -> str:
    """The time from the container's start to its end, such as ``1m23s``; "" if it never ran."""
    start, end = parse_time(build.start_time), parse_time(build.completion_time)
    if start is None or end is None:
        return ""
    seconds = max(0, round((end - start).total_seconds()))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def second(moment: datetime) -> str:
    """A time in RFC 3339 without fractions, as in conditions."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def clipped(text: str) -> str:
    """A message, truncated to the maximum length of a condition's."""
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def status_json(status: Status) -> Json:
    """The status as it is stored: without empty fields."""
    dumped: Json = _without_empty(status.model_dump(mode="json", by_alias=True))
    return dumped


def status_patch(stored: Mapping[str, Any], status: Status) -> Json:
    """The JSON merge patch (RFC 7386) from the stored status to this one; {} if they are equal.

    Top-level fields that this version does not know stay: they are those of a newer operator.
    """
    known = {field.alias or name for name, field in Status.model_fields.items()}
    return _merge_patch({key: value for key, value in stored.items() if key in known}, status_json(status))


def _merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> Json:
    patch: Json = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            changes = _merge_patch(old, value)
            if changes:
                patch[key] = changes
        elif value != old:
            patch[key] = value
    return patch


def _without_empty(value: Any) -> Any:
    """Without null, "", [], {} and false; numbers stay, as 0 is an exit code."""
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    if not isinstance(value, dict):
        return value
    pruned = {key: _without_empty(item) for key, item in value.items()}
    return {key: item for key, item in pruned.items() if item not in (None, "", [], {}) and item is not False}
