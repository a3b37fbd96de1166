"""Where a build's time went, recorded around a display: the trace, its summary, and what the display still shows."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, get_args

import pytest

from imagewright.dockerfile.model import DockerfileWarning
from imagewright.engine.events import Phase, PhaseKind, StepEnded, StepStarted, Transfer, timed
from imagewright.errors import ImagewrightError, Location
from imagewright.progress.display import Level
from imagewright.progress.plain import PlainReporter
from imagewright.progress.timings import TimedDisplay, program_begin
from imagewright.progress.trace import Span, Trace, covered

STEP = StepStarted(1, 1, "build", 2, 3, "RUN make", Location("Dockerfile", 4))


class Recorded:
    """A display in memory with timings around it."""

    def __init__(self, path: Path, level: Level = Level.DEBUG) -> None:
        self.path = path
        self.stream = io.StringIO()
        self.display = TimedDisplay(PlainReporter(self.stream, level), str(path), time.monotonic() - 1)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    def events(self, phase: str = "X") -> list[dict[str, Any]]:
        self.display.close()
        return [event for event in json.loads(self.path.read_text())["traceEvents"] if event["ph"] == phase]


def test_everything_is_passed_on(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "t.json")
    display = recorded.display
    display.message("a message")
    display.warning("odd")
    display.lint(DockerfileWarning("StageNameCasing", "upper case", Location("Dockerfile", 1)))
    display.debug("detail")
    display.step_started(STEP)
    display.output(STEP, b"out\n")
    display.step_ended(StepEnded(STEP, 1.0))
    display.transfer(Transfer("pull", "0123", 9, 9, finished=True))
    display.failed(ImagewrightError("broken"))
    for shown in (
        "a message",
        "odd",
        "upper case",
        "detail",
        "RUN make",
        "| out",
        "done in 1.0 s",
        "pulled 0123",
        "broken",
    ):
        assert any(shown in line for line in recorded.lines), shown


def test_spans_nest_and_have_their_thread(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "t.json")
    display = recorded.display
    display.step_started(STEP)
    with timed(display, "run"):
        sum(range(200_000))
    display.step_ended(StepEnded(STEP, 0.0))

    def elsewhere() -> None:
        with timed(display, "inflate", "sha256:abc", 1000):
            time.sleep(0.02)

    thread = threading.Thread(target=elsewhere, name="inflate")
    thread.start()
    thread.join()
    named = {event["cat"]: event for event in recorded.events()}
    start, step, run, inflate = (named[kind] for kind in ("start", "step", "run", "inflate"))
    assert start["ts"] == 0
    assert 900_000 < start["dur"] < 1_100_000_000
    assert step["name"] == "step [build 2/3] RUN make"
    assert step["ts"] <= run["ts"]
    assert run["ts"] + run["dur"] <= step["ts"] + step["dur"] + 1  # both are rounded
    assert step["tid"] == run["tid"] == threading.get_native_id()
    assert inflate["tid"] != run["tid"]
    assert inflate["args"] == {"bytes": 1000}
    assert inflate["tdur"] < inflate["dur"]  # it slept
    assert 0 < run["tdur"] <= run["dur"] * 1.1
    assert all(event["pid"] == os.getpid() for event in named.values())
    threads = {event["tid"]: event["args"]["name"] for event in recorded.events("M") if event["name"] == "thread_name"}
    assert threads[inflate["tid"]] == "inflate"


def test_a_phase_that_fails_is_recorded(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "t.json")
    with pytest.raises(ValueError, match="no"), timed(recorded.display, "push"):
        raise ValueError("no")
    assert [event["cat"] for event in recorded.events()] == ["start", "push"]


def test_an_upload_begins_with_its_first_event_and_has_the_bytes_that_were_sent(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "t.json")
    for name, steps in (("sent", (0, 40, 90)), ("mounted", (0,))):
        for done in steps:
            recorded.display.transfer(Transfer("push", name, done, 90))
            time.sleep(0.01)
        recorded.display.transfer(Transfer("push", name, 90, 90, finished=True))
    recorded.display.transfer(Transfer("pull", "other", 1, 1, finished=True))  # a download is a phase
    uploads = {event["name"]: event for event in recorded.events() if event["cat"] == "upload"}
    assert uploads["upload sent"]["args"] == {"bytes": 90}
    assert uploads["upload sent"]["dur"] >= 30_000
    assert uploads["upload mounted"]["args"] == {}
    assert len(uploads) == 2


@pytest.mark.parametrize("level", [Level.DEBUG, Level.INFO])
def test_the_summary_is_last_and_only_for_debug(tmp_path: Path, level: Level) -> None:
    recorded = Recorded(tmp_path / "t.json", level)
    now = time.monotonic()
    for begin in (0.0, 0.5):
        recorded.display.phase(Phase("unpack", "x", now + begin, 1.0, 0.25, 1_500_000))
    recorded.display.message("before")
    recorded.display.close()
    if level is Level.INFO:
        assert recorded.lines == ["before"]
        return
    assert recorded.lines[0] == "before"
    assert recorded.lines[1].startswith("timings: ")
    *_, unpack = recorded.lines
    assert unpack.split() == ["unpack", "2", "1.5", "s", "0.5", "s", "3.0", "MB"]
    assert recorded.lines[2].split() == ["phase", "times", "time", "CPU", "size"]


def test_seconds_count_once_however_many_spans_they_are_in() -> None:
    def span(begin: float, seconds: float) -> Span:
        return Span("unpack", "", begin, seconds, 0.0, 1)

    assert covered([]) == 0
    assert covered([span(5, 1), span(0, 10), span(2, 3)]) == 10
    assert covered([span(0, 1), span(3, 1), span(3.5, 1)]) == 2.5


def test_what_no_phase_covers_is_told() -> None:
    trace = Trace(100.0)
    trace.start(101.0, 0.5, 1, "main")
    trace.add(Span("step", "everything", 101.0, 9.0, 0.0, 1), "main")  # has other phases, and is none
    trace.add(Span("run", "", 102.0, 5.0, 0.0, 1), "main")
    assert trace.summary(110.0)[0] == "timings: 10.0 s in all, of which 4.0 s outside of these phases"


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    recorded = Recorded(tmp_path / "file" / "t.json", Level.WARN)
    recorded.display.close()
    (line,) = recorded.lines
    assert line.startswith("warning: cannot write the file ")


def test_the_begin_of_the_program_includes_the_interpreter() -> None:
    before = time.monotonic()
    code = "from imagewright.progress.timings import program_begin; print(program_begin())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    begin = float(done.stdout)
    assert before - 0.02 <= begin <= time.monotonic()
    assert program_begin() < before


def test_the_documentation_has_every_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "logging.md").read_text()
    cells = re.findall(r"^\| (.*?) \|", page.partition("| phase |")[2], re.MULTILINE)
    documented = [kind for cell in cells for kind in re.findall(r"`(.*?)`", cell)]
    assert sorted(documented) == sorted([*get_args(PhaseKind), "start", "step", "upload"])
