"""The Prometheus metrics of the operator; no label has unbounded values. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from imagewright.errors import Reason
from imagewright_operator.api.status import Build
from imagewright_operator.pods.observation import parse_time

_REASONS = frozenset(Reason)
_DURATIONS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)


class _Phases(Collector):
    """A gauge whose labels come and go."""

    def __init__(self, phases: Callable[[], Mapping[str, int]]) -> None:
        self._phases = phases

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("imagewright_imagebuilds", "Number of ImageBuilds, by phase.", labels=["phase"])
        for phase, count in sorted(self._phases().items()):
            family.add_metric([phase], count)
        yield family


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._builds = Counter("imagewright_builds", "Finished builds.", ["outcome", "reason"], registry=self.registry)
        self._duration = Histogram(
            "imagewright_build_duration_seconds",
            "Time from the start of the executor to its end.",
            ["outcome"],
            buckets=_DURATIONS_S,
            registry=self.registry,
        )
        self._queued = Histogram(
            "imagewright_build_queue_seconds",
            "Time from queueing a build to the start of its executor.",
            buckets=_DURATIONS_S,
            registry=self.registry,
        )
        self._errors = Counter(
            "imagewright_reconcile_errors",
            "Reconciliations that failed and are retried.",
            ["kind"],
            registry=self.registry,
        )
        self.leader = Gauge(
            "imagewright_leader",
            "1 if this operator is the leader, 0 if it stands by.",
            registry=self.registry,
        )
        self._requests = Counter(
            "imagewright_api_requests",
            "Requests to the API server; code 0 means no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._running = Gauge(
            "imagewright_builds_running", "Executor Pods that have not ended.", registry=self.registry
        )
        self._waiting = Gauge(
            "imagewright_builds_waiting",
            "Builds that are queued behind others and have no Pod yet.",
            registry=self.registry,
        )
        self._depth = Gauge("imagewright_queue_depth", "ImageBuilds that wait for a worker.", registry=self.registry)

    def watch(
        self,
        *,
        phases: Callable[[], Mapping[str, int]],
        counts: Callable[[], tuple[int, int]],
        depth: Callable[[], int],
    ) -> None:
        """Gauges that are evaluated at every scrape; ``counts`` returns the running and the queued builds."""
        self._running.set_function(lambda: counts()[0])
        self._waiting.set_function(lambda: counts()[1])
        self._depth.set_function(depth)
        self.registry.register(_Phases(phases))

    def finished(self, build: Build) -> None:
        """A build has finished, and its outcome is stored."""
        reason = build.failure.reason if build.failure is not None else ""
        if reason and reason not in _REASONS:  # reported by the executor, possibly a fake by a RUN
            reason = "Other"
        self._builds.labels(build.outcome, reason).inc()
        queued, start, end = (parse_time(text) for text in (build.queue_time, build.start_time, build.completion_time))
        if start and end:
            self._duration.labels(build.outcome).observe(max(0.0, (end - start).total_seconds()))
        if queued and start:
            self._queued.observe(max(0.0, (start - queued).total_seconds()))

    def failed(self, kind: str) -> None:
        """A reconciliation failed with an exception of this class."""
        self._errors.labels(kind).inc()

    def request(self, verb: str, resource: str, status: int) -> None:
        """A request was sent to the API server."""
        self._requests.labels(verb, resource, str(status)).inc()
