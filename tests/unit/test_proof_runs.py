"""What ``scripts/test`` makes of a run: tiers, times, tables, what remains and the exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from proof.__main__ import verdict
from proof.durations import Durations, minutes, seconds_by_test
from proof.report import PhaseTime, tables
from proof.tiers import OTHER, tier_of
from times.records import VARIABLE, TimedFixture, TimedStep, TimedTest, keep, kept

TESTS = Path(__file__).parents[1]
CRASHES_ONCE = """
import os, pathlib, pytest, time

@pytest.mark.parametrize("number", range(40))
def test_one(number):
    replaces = pathlib.Path("replaces")
    if number == 20 and not os.path.exists("crashed"):
        pathlib.Path("crashed").touch()
        os._exit(1)
    if os.environ["PYTEST_XDIST_WORKER"] == "gw2":
        replaces.touch()
    while number > 20 and not replaces.exists():
        time.sleep(0.05)
"""
TIMES = [
    TimedTest("tests/unit/test_a.py::test_one", "setup", 0.5, "passed"),
    TimedTest("tests/unit/test_a.py::test_one", "call", 1.5, "passed"),
    TimedTest("tests/e2e/test_b.py::test_two[x]", "call", 61.0, "passed"),
]


def test_every_file_of_tests_has_a_tier() -> None:
    files = [f"tests/{path.relative_to(TESTS)}" for path in TESTS.rglob("test_*.py")]
    assert len(files) > 150
    assert [file for file in files if tier_of(file) == OTHER] == []


@pytest.mark.parametrize(
    ("nodeid", "tier"),
    [
        ("tests/cases/test_cases.py::test_case[add-git]", "planned cases"),
        ("tests/cases/test_executed.py::test_the_engine_builds_what_is_recorded[add-git]", "executed cases"),
        ("tests/integration/test_context_git.py::test_a_branch", "integration"),
        ("tests/integration/test_context_buckets.py::test_s3", "registry"),
        ("tests/integration/operator/test_operator_kills.py::test_x", "operator"),
    ],
)
def test_a_tier_is_told_by_folder_and_file(nodeid: str, tier: str) -> None:
    assert tier_of(nodeid) == tier


def test_records_come_back_as_they_were_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    records = [TIMES[0], TimedFixture("api (tests/integration/operator, session)", 4.5), TimedStep("Building x", 60.0)]
    for record in records:
        keep(record)
    assert list(kept(tmp_path)) == records
    monkeypatch.delenv(VARIABLE)
    keep(TIMES[1])
    assert list(kept(tmp_path)) == records


def test_the_tables_say_where_the_time_went() -> None:
    made = [TimedFixture("api (x, session)", 4.0), TimedFixture("api (x, session)", 5.0), TimedStep("Building x", 0.4)]
    text = tables([PhaseTime("alone", 125.0, 1.234)], [*TIMES, *made])
    lines = [line.split() for line in text.splitlines()]
    assert ["2:05", "1.23", "alone"] in lines
    assert ["1", "0:02", "unit"] in lines
    assert ["1", "1:01", "end", "to", "end"] in lines
    assert ["2", "0:09", "fixture", "api", "(x,", "session)"] in lines
    assert "Building x" not in text  # less than a second together
    slowest = text.partition("slowest tests\n")[2].splitlines()
    assert [line.split() for line in slowest] == [["61.0", TIMES[2].test], ["2.0", TIMES[0].test]]


def test_the_next_run_knows_how_long_tests_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEWRIGHT_CACHE", str(tmp_path))
    assert not Durations.load().known
    Durations.load().updated([TimedTest("tests/unit/test_a.py::test_other", "call", 4.0, "passed")])
    Durations.load().updated(TIMES)
    known = Durations.load()
    assert known.of(TIMES[0].test) == 2.0
    assert known.of("tests/unit/test_a.py::test_other") == 4.0
    assert known.of("tests/unit/test_a.py::test_new") == pytest.approx((2 + 4 + 61) / 3)
    (tmp_path / "tests" / "durations.json").write_text('{"cut off')
    assert Durations.load().of("anything") == 1.0


def test_what_a_test_took_is_all_its_parts() -> None:
    assert seconds_by_test(TIMES) == {TIMES[0].test: 2.0, TIMES[2].test: 61.0}
    assert minutes(725.9) == "12:05"


@pytest.mark.parametrize(
    ("codes", "outcome", "ci", "expected"),
    [
        ([0, 0, 5], "passed", True, 0),
        ([0, 1, 0], "failed", True, 1),
        ([1, 0, 0], "failed", False, 1),
        ([0, 2, 1], "passed", False, 2),
        ([5, 5], "passed", True, 5),
        ([0, 0], "skipped", True, 1),
        ([0, 0], "skipped", False, 0),
    ],
)
def test_the_exit_code(
    codes: list[int], outcome: str, ci: bool, expected: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("CI", "true") if ci else monkeypatch.delenv("CI", raising=False)
    assert (
        verdict(codes, [TimedTest("tests/a", "setup", 0.1, "passed"), TimedTest("tests/a", "call", 0.1, outcome)])
        == expected
    )
    printed = capsys.readouterr().out
    assert f"{int(outcome == 'passed')} passed, {int(outcome == 'failed')} failed" in printed
    assert ("tests/a" in printed) == (outcome == "skipped" and ci)


def test_the_others_run_what_is_left_when_a_worker_has_crashed(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_crashing.py").write_text(CRASHES_ONCE)
    words = ["-q", "-pproof.plugin", "-pno:cacheprovider", "--numprocesses=2", "--dist=loadgroup", "test_crashing.py"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, env=environment, check=False, capture_output=True,
        text=True,
    )  # fmt: skip
    assert "1 failed, 40 passed" in done.stdout, done.stdout
    assert "crashed while running 'test_crashing.py::test_one[20]'" in done.stdout
