"""What pytest does for ``scripts/test``: which tests run side by side and in which order, times, lines of progress.

Loaded by tests/conftest.py. I/O: records times (``records``); with ``$IMAGEWRIGHT_TIMES`` set it prints a line of
progress now and then in place of a dot for every test.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from proof.durations import Durations, minutes
from proof.tiers import PEERS_GROUP, TIERS, tier_of
from times.records import VARIABLE, TimedFixture, TimedTest, keep
from xdist.scheduler import LoadGroupScheduling

_LINE_EVERY_S = 30.0
_FIXTURE_FROM_S = 0.2  # quicker ones are noise: there are tens of thousands


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs nothing comes first, so that what the rest needs can be compiled meanwhile."""
    items.sort(key=lambda item: TIERS.index(tier_of(item.nodeid)))  # stable: files stay together


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
    start = time.monotonic()
    try:
        return (yield)
    finally:
        seconds = time.monotonic() - start
        if seconds >= _FIXTURE_FROM_S:
            where = fixturedef.baseid or "tests"
            keep(TimedFixture(f"{fixturedef.argname} ({where}, {fixturedef.scope})", round(seconds, 3)))


def pytest_configure(config: pytest.Config) -> None:
    controls = not hasattr(config, "workerinput")  # a worker of pytest-xdist reports to the process that controls it
    if controls and os.environ.get(VARIABLE):
        config.pluginmanager.register(_Progress(config), "imagewright-progress")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadGroupScheduling | None:
    return _Scheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


class _Scheduling(LoadGroupScheduling):  # type: ignore[misc]
    """pytest-xdist's own waits for ever after a worker has crashed.

    A worker runs a test when it has the next one, too, and asks for more when a test has ended.
    """

    def remove_node(self, node: object) -> str | None:
        """Hands out again what the worker has not run; of what it has run, others would wait for the end."""
        work = self.assigned_work[node]
        for scope in [scope for scope, tests in work.items() if all(tests.values())]:
            del work[scope]
        crashed: str | None = super().remove_node(node)
        return crashed

    def schedule(self) -> None:
        """A worker that replaces another gets two tests, as those of the beginning do."""
        began = self.collection is not None
        super().schedule()
        if began:
            super().schedule()


class _Progress:
    """Counts the reports of all workers, records them, and says now and then how far the run is."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._durations = Durations.load()
        self._started = self._said = time.monotonic()
        self._waiting: dict[str, float] = {}
        self._done: Counter[str] = Counter()
        self._of: Counter[str] = Counter()
        self._expected_s = 0.0  # what the tests that have ended took in the last run

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._begin([item.nodeid for item in session.items])

    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._begin([plain(nodeid) for nodeid in ids])

    def _begin(self, ids: list[str]) -> None:
        if not self._of and ids:
            self._waiting = {nodeid: self._durations.of(nodeid) for nodeid in ids}
            self._of = Counter(tier_of(nodeid) for nodeid in ids)
            self._started = time.monotonic()

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        return ("passed" if report.when == "call" else "", "", "") if report.passed else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        nodeid = plain(report.nodeid)
        keep(TimedTest(nodeid, str(report.when), round(report.duration, 4), report.outcome))
        if report.when == "teardown":
            self._expected_s += self._waiting.pop(nodeid, 0.0)
            self._done[tier_of(nodeid)] += 1
        if time.monotonic() - self._said >= _LINE_EVERY_S:
            self._said = time.monotonic()
            self._say(nodeid)

    def _say(self, latest: str) -> None:
        passed = time.monotonic() - self._started
        counts = ", ".join(f"{tier} {self._done[tier]}/{self._of[tier]}" for tier in TIERS if self._of[tier])
        left = sum(self._waiting.values()) * passed / self._expected_s if self._expected_s else 0.0
        remains = f"about {minutes(left)} remain" if self._durations.known else "how long it takes is not known yet"
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        reporter.ensure_newline()
        reporter.write_line(f"[{minutes(passed)}] {counts}; {remains}; {Path(latest).name}")


def plain(nodeid: str) -> str:
    """Without the group that pytest-xdist appends."""
    return nodeid.removesuffix(f"@{PEERS_GROUP}")
