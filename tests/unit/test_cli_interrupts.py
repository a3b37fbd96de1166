"""Signals that end a build, at whatever moment they come."""

from __future__ import annotations

import subprocess
import sys

import pytest

HANGS_S = 60
PROGRAMS = {
    "while something is finalized": """
class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        [None for _ in range(1000)]
with Interrupts() as interrupts:
    interrupts.repeat()
    try:
        Finalized()
        threading.Event().wait()
    except Interruption as found:
        print(found)
""",
    "before it can be repeated": """
with Interrupts() as interrupts:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Interruption as found:
        print(found)
""",
    "while the first is cleaned up after": """
with Interrupts() as interrupts:
    interrupts.repeat()
    try:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            for _ in range(5):
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)
    except Interruption as found:
        print(found)
""",
}


@pytest.mark.parametrize("moment", PROGRAMS)
def test_a_signal_interrupts_once(moment: str) -> None:
    program = f"""
import os, signal, threading, time
from imagewright.cli.interrupts import Interrupts
from imagewright.errors import Interruption
before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
{PROGRAMS[moment]}
assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
assert signal.set_wakeup_fd(-1) == -1
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANGS_S, check=True)
    assert done.stdout == "the build was cancelled (SIGTERM)\n"
    assert done.stderr == ""


def test_other_unraisable_errors_are_reported_as_ever() -> None:
    program = """
from imagewright.cli.interrupts import Interrupts
class Finalized:
    def __del__(self):
        raise ValueError("of the finalizer")
with Interrupts():
    Finalized()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANGS_S, check=True)
    assert "ValueError: of the finalizer" in done.stderr
