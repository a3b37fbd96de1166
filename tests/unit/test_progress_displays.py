"""The same build on each display: in a log, for a log collector, and on a terminal."""

from __future__ import annotations

import io
import json
import re
import threading
from typing import Any

import pytest
from rich.console import Console

from imagewright.dockerfile.model import DockerfileWarning
from imagewright.engine.events import StepEnded, StepStarted, Transfer
from imagewright.errors import ImagewrightError, Location, Reason, RegistryError, StepError
from imagewright.progress.display import Display, Level
from imagewright.progress.jsonlines import JsonReporter
from imagewright.progress.live import LiveReporter
from imagewright.progress.plain import PlainReporter

STEP = StepStarted(1, 1, "build", 2, 3, "RUN make", Location("Dockerfile", 4))
FAILURE = StepError(
    "'RUN make' ended with exit code 2",
    exit_code=2,
    location=Location("Dockerfile", 4),
    excerpt=[
        "3 | FROM x",
        "4 | RUN make",
        "    ^^^^^^^^",
        "",
        "the last lines of its output:",
        "    \x1b[31mno rule\x1b[0m",
    ],
    hint="Look at the Makefile.",
)


def tell(display: Display, failure: ImagewrightError | None = None) -> None:
    """A small build."""
    display.message("sandbox namespace: \x1b]0;owned\x07it works")
    display.lint(DockerfileWarning("StageNameCasing", "upper case", Location("Dockerfile", 1)))
    display.warning("something odd")
    display.debug("for those who ask")
    display.transfer(Transfer("pull", "0123456789ab", 0, 5_000_000))
    display.transfer(Transfer("pull", "small", 10, 10, finished=True))
    display.transfer(Transfer("pull", "0123456789ab", 5_000_000, 5_000_000, finished=True))
    display.step_started(STEP)
    display.output(STEP, b"first\n\x1b[32msec")
    display.output(STEP, b"ond\x1b[0m\nno end")
    display.step_ended(StepEnded(STEP, 61.0, 1_500_000, failure))
    display.close()
    if failure is not None:
        display.failed(failure)


def plain(level: Level = Level.INFO, failure: ImagewrightError | None = None, timestamps: bool = False) -> list[str]:
    stream = io.StringIO()
    tell(PlainReporter(stream, level, timestamps=timestamps), failure)
    return stream.getvalue().splitlines()


def events(level: Level = Level.INFO, failure: ImagewrightError | None = None) -> list[dict[str, Any]]:
    stream = io.StringIO()
    tell(JsonReporter(stream, level), failure)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class TestPlain:
    def test_a_build(self) -> None:
        lines = plain()
        assert re.fullmatch(r"  pulled 0123456789ab: 5\.0 MB in 0\.\d s", lines.pop(3))
        assert lines == [
            "sandbox namespace: it works",
            "warning: Dockerfile:1: upper case [StageNameCasing]",
            "warning: something odd",
            "[build 2/3] RUN make",
            "  | first",
            "  | second",
            "  | no end",
            "  done in 1 min 01 s, layer of 1.5 MB",
        ]

    @pytest.mark.parametrize("level", [Level.INFO, Level.DEBUG])
    def test_what_need_not_be_sent_is_not_said_to_be(self, level: Level) -> None:
        stream = io.StringIO()
        display = PlainReporter(stream, level)
        for done, finished in ((0, False), (0, True)):
            display.transfer(Transfer("push", "0123456789ab", done, 5_000_000, finished))
        said = "  not pushed 0123456789ab: the registry has its 5.0 MB\n"
        assert stream.getvalue() == (said if level is Level.DEBUG else "")

    def test_an_empty_download(self) -> None:
        stream = io.StringIO()
        PlainReporter(stream, Level.DEBUG).transfer(Transfer("pull", "0123456789ab", 0, 0, finished=True))
        assert stream.getvalue().startswith("  pulled 0123456789ab: 0 B in ")

    def test_a_failure_comes_last(self) -> None:
        lines = plain(failure=FAILURE)
        assert "  failed after 1 min 01 s, layer of 1.5 MB" in lines
        assert lines[lines.index("error: 'RUN make' ended with exit code 2 [StepFailed]") :] == [
            "error: 'RUN make' ended with exit code 2 [StepFailed]",
            "  --> Dockerfile:4",
            "3 | FROM x",
            "4 | RUN make",
            "    ^^^^^^^^",
            "",
            "the last lines of its output:",
            "    no rule",
            "hint: Look at the Makefile.",
        ]

    def test_levels(self) -> None:
        assert "for those who ask" in plain(Level.DEBUG)
        assert any("small" in line for line in plain(Level.DEBUG))
        assert plain(Level.WARN) == ["warning: Dockerfile:1: upper case [StageNameCasing]", "warning: something odd"]
        assert plain(Level.ERROR) == []
        assert plain(Level.ERROR, FAILURE)[0].startswith("error: ")

    def test_every_line_has_a_timestamp(self) -> None:
        pattern = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z .*")
        assert all(pattern.fullmatch(line) for line in plain(failure=FAILURE, timestamps=True))

    def test_unfinished_output_of_a_step_ends_its_line(self) -> None:
        stream = io.StringIO()
        display = PlainReporter(stream, Level.INFO)
        display.step_started(STEP)
        display.output(STEP, b"cut \xe2")  # half a character
        display.step_ended(StepEnded(STEP, 0.0))
        display.step_started(STEP)
        display.output(STEP, b"whole\n")
        assert stream.getvalue().splitlines()[1:] == [
            "  | cut \ufffd",
            "  done in 0.0 s",
            "[build 2/3] RUN make",
            "  | whole",
        ]

    def test_lines_of_several_threads_are_not_mixed(self) -> None:
        stream = io.StringIO()
        display = PlainReporter(stream, Level.INFO)
        threads = [
            threading.Thread(target=lambda n=n: [display.message(str(n) * 50) for _ in range(200)]) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = stream.getvalue().splitlines()
        assert len(lines) == 800
        assert {len(set(line)) for line in lines} == {1}


class TestJson:
    def test_a_build(self) -> None:
        step = {"stage": "build", "step": 2, "steps": 3, "line": 4}
        found = events()
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("time")) for event in found)
        assert found == [
            {"level": "info", "event": "message", "msg": "sandbox namespace: it works"},
            {
                "level": "warning",
                "event": "lint",
                "msg": "upper case",
                "file": "Dockerfile",
                "line": 1,
                "rule": "StageNameCasing",
            },
            {"level": "warning", "event": "warning", "msg": "something odd"},
            {"level": "info", "event": "stepStarted", "msg": "[build 2/3] RUN make", **step},
            {"level": "info", "event": "output", "msg": "first", **step},
            {"level": "info", "event": "output", "msg": "second", **step},
            {"level": "info", "event": "output", "msg": "no end", **step},
            {
                "level": "info",
                "event": "stepEnded",
                "msg": "[build 2/3] RUN make",
                **step,
                "seconds": 61.0,
                "layerSize": 1_500_000,
            },
        ]

    def test_a_failing_step(self) -> None:
        ended, failed = events(failure=FAILURE)[-2:]
        assert (ended["event"], ended["level"], ended["reason"]) == ("stepEnded", "error", "StepFailed")
        del failed["time"]
        assert failed == {
            "level": "error",
            "event": "failed",
            "msg": "'RUN make' ended with exit code 2",
            "reason": "StepFailed",
            "hint": "Look at the Makefile.",
            "file": "Dockerfile",
            "line": 4,
            "exitCode": 2,
            "excerpt": [
                "3 | FROM x",
                "4 | RUN make",
                "    ^^^^^^^^",
                "",
                "the last lines of its output:",
                "    no rule",
            ],
        }

    def test_a_failure_without_a_location(self) -> None:
        failed = events(failure=RegistryError("it said \x1b[31mno", reason=Reason.PUSH_FAILED))[-1]
        assert set(failed) == {"time", "level", "event", "msg", "reason"}
        assert failed["msg"] == "it said no"

    def test_transfers_are_logged_at_debug_level(self) -> None:
        found = [event for event in events(Level.DEBUG) if event["event"] == "transfer"]
        assert [(event["kind"], event["blob"], event["size"]) for event in found] == [
            ("pull", "small", 10),
            ("pull", "0123456789ab", 5_000_000),
        ]

    def test_a_push_says_whether_something_was_sent(self) -> None:
        stream = io.StringIO()
        display = JsonReporter(stream, Level.DEBUG)
        display.transfer(Transfer("push", "sent", 10, 10, finished=True))
        display.transfer(Transfer("push", "there", 0, 10, finished=True))
        found = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert [(one["blob"], one["size"], one.get("sent", True)) for one in found] == [
            ("sent", 10, True),
            ("there", 10, False),
        ]

    def test_names_that_are_not_utf_8(self) -> None:
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding="utf-8")
        JsonReporter(stream, Level.INFO).message("copied \udcff and\nmore")
        assert json.loads(raw.getvalue())["msg"] == "copied  and\nmore"


class TestLive:
    def test_a_build(self) -> None:
        assert _screen().splitlines() == [
            "sandbox namespace: it works",
            "warning: Dockerfile:1: upper case [StageNameCasing]",
            "warning: something odd",
            "✓ [build 2/3] RUN make  1 min 01 s  1.5 MB",
        ]

    def test_a_failure(self) -> None:
        text = _screen(FAILURE)
        assert "✗ [build 2/3] RUN make" in text
        assert text.rstrip().endswith("hint: Look at the Makefile.")
        assert "no rule" in text

    def test_the_frame_shows_running_steps_and_transfers(self) -> None:
        """The step, its last lines and the unfinished one, and transfers with their sizes."""
        stream = io.StringIO()
        display = LiveReporter(Console(file=stream, force_terminal=True, width=80, height=24), Level.INFO)
        display.step_started(STEP)
        display.output(STEP, b"".join(b"line %d\n" % number for number in range(50)) + b"10%\r20%")
        for number in range(30):
            display.transfer(Transfer("push", f"layer{number}", 1_000_000, 4_000_000))
        frame = Console(file=io.StringIO(), width=80)
        frame.print(display._draw())
        display.close()
        assert isinstance(frame.file, io.StringIO)
        lines = frame.file.getvalue().splitlines()
        assert re.match(r"• \[build 2/3\] RUN make  \d\.\d s", lines[0])
        assert [line.strip() for line in lines[1:7]] == ["line 45", "line 46", "line 47", "line 48", "line 49", "20%"]
        assert "push layer0" in lines[7]
        assert "1.0 MB of 4.0 MB" in lines[7]
        assert lines[-1].strip() == "and 24 more"
        assert len(lines) < 24

    def test_no_thread_starts_before_something_is_drawn(self) -> None:
        """The sandbox forks after the display is created, and a process with threads cannot create a user namespace."""
        before = set(threading.enumerate())
        display = LiveReporter(Console(file=io.StringIO(), force_terminal=True), Level.INFO)
        display.message("sandbox namespace")
        assert set(threading.enumerate()) == before
        display.step_started(STEP)
        (drawing,) = set(threading.enumerate()) - before
        display.close()
        drawing.join(60)
        assert not drawing.is_alive()

    def test_drawing_and_printing_from_many_threads_do_not_deadlock(self) -> None:
        console = Console(file=io.StringIO(), force_terminal=True, width=80)
        display = LiveReporter(console, Level.DEBUG)

        def work(name: str) -> None:
            for number in range(100):
                display.transfer(Transfer("pull", name, number, 100))
                display.message(name)
                display.output(STEP, b"x\n")
            display.transfer(Transfer("pull", name, 100, 100, finished=True))

        display.step_started(STEP)
        threads = [threading.Thread(target=work, args=(str(number),), daemon=True) for number in range(4)]
        stop = threading.Event()

        def draw() -> None:
            while not stop.is_set():
                assert display._live is not None
                display._live.refresh()

        drawer = threading.Thread(target=draw, daemon=True)
        for thread in (*threads, drawer):
            thread.start()
        for thread in threads:
            thread.join(60)
        stop.set()
        drawer.join(60)
        assert not any(thread.is_alive() for thread in (*threads, drawer)), "they wait for each other"
        display.close()

    @pytest.mark.parametrize("failure", [None, FAILURE])
    def test_the_terminal_is_restored(self, failure: ImagewrightError | None) -> None:
        stream = io.StringIO()
        tell(LiveReporter(Console(file=stream, force_terminal=True, width=80), Level.INFO), failure)
        assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1


def _screen(failure: ImagewrightError | None = None) -> str:
    """The content of a terminal after the build."""
    stream = io.StringIO()
    tell(LiveReporter(Console(file=stream, force_terminal=True, width=80, height=24), Level.INFO), failure)
    text = stream.getvalue()
    assert "owned" not in text
    return _terminal(text)


def _terminal(text: str) -> str:
    """A terminal's lines. It supports what the display uses: line feeds, cursor up, erase line, colours."""
    lines, row, column = [""], 0, 0
    for match in re.finditer(r"\x1b\[([0-?]*)([@-~])|\r|\n|[^\x1b\r\n]+", text):
        match match.group(0), match.group(2):
            case "\r", _:
                column = 0
            case "\n", _:
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            case _, "A":
                row -= int(match.group(1) or 1)
                assert row >= 0, "the cursor leaves what was drawn"
            case _, "K":
                lines[row] = ""
            case _, "m" | "h" | "l":
                pass
            case words, None:
                lines[row] = lines[row][:column].ljust(column) + words + lines[row][column + len(words) :]
                column += len(words)
            case other, _:
                raise AssertionError(f"unknown to this terminal: {other!r}")
    return "\n".join(lines)
