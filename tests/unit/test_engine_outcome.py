"""Errors of the operating system that no part expected: users learn what has run out."""

from __future__ import annotations

import errno
import os

import pytest

from imagewright.engine.outcome import explain
from imagewright.errors import Reason


@pytest.mark.parametrize(
    ("failure", "reason", "said"),
    [
        (RuntimeError("can't start new thread"), "LimitExceeded", "cannot start a thread of the engine"),
        (BlockingIOError(errno.EAGAIN, "x"), "LimitExceeded", "cannot start a process of the engine"),
        (BlockingIOError(errno.EAGAIN, "x", "/lock"), "InternalError", "/lock: x"),
        (OSError(errno.ENOSPC, "x"), "DiskFull", "no space left"),
        (OSError(errno.EIO, os.strerror(errno.EIO), "/f"), "InternalError", "/f: Input/output error"),
    ],
)
def test_what_ran_out_is_said(failure: Exception, reason: str, said: str) -> None:
    error = explain(failure)
    assert error is not None
    assert error.reason is Reason(reason)
    assert said in error.message
    assert error.hint


def test_a_bug_is_no_error_of_the_system() -> None:
    assert explain(RuntimeError("dictionary changed size during iteration")) is None
    assert explain(ValueError("x")) is None
