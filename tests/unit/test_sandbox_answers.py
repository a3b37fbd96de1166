"""What a runner that starts commands reports as an error of the system, as the engine's error."""

from __future__ import annotations

import errno
import json

import pytest

from imagewright.errors import Reason, SandboxError
from imagewright.sandbox.runner.answers import exit_code


@pytest.mark.parametrize(
    ("number", "reason", "hint"),
    [
        (errno.EAGAIN, Reason.SANDBOX_UNAVAILABLE, "podPidsLimit"),
        (errno.ENOSPC, Reason.DISK_FULL, "--work-dir"),
        (errno.ELOOP, Reason.PATH_NOT_ALLOWED, ""),
        (None, Reason.SANDBOX_UNAVAILABLE, ""),
    ],
)
def test_the_error_of_the_system_decides_reason_and_hint(number: int | None, reason: Reason, hint: str) -> None:
    with pytest.raises(SandboxError) as caught:
        exit_code(json.dumps({"error": "it failed", "errno": number, "hint": ""}).encode())
    assert caught.value.reason is reason
    assert hint in caught.value.hint
    assert bool(hint) is bool(caught.value.hint)
