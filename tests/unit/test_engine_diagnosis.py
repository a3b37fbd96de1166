"""Hints name the cause that output and memory counters show, and no other."""

from __future__ import annotations

import pytest

from imagewright.engine.steps.diagnosis import LONGEST_BYTES, MemoryCounts, diagnose_exit, diagnose_lost_runner
from imagewright.errors import Location, Reason
from imagewright.plan.steps import RunStep, Script, StepText
from imagewright.sandbox.model import Counts, MemoryUse

GI = 1 << 30
BEFORE = MemoryUse(1, GI, 4 * GI)


def memory(after: MemoryUse | None, machine: tuple[int | None, int | None] = (1, 2)) -> MemoryCounts:
    """``machine`` are the kills on the whole machine, before and after."""
    return MemoryCounts(Counts(BEFORE if after else None, machine[0]), Counts(after, machine[1]))


UNKNOWN = memory(None, (None, None))
NOT_SHORT = memory(BEFORE)
AT_THE_LIMIT = memory(MemoryUse(2, 4 * GI, 4 * GI))
OF_THE_NODE = memory(MemoryUse(2, GI, 4 * GI))


def step(*argv: str, script: Script | None = None) -> RunStep:
    text = StepText("RUN x", "RUN x", Location("Dockerfile", 1))
    return RunStep(text, argv or ("/bin/sh", "-c", "x"), (), "", "/work", script=script)


def hint(code: int, *output: str, run: RunStep | None = None, env: dict[str, str] | None = None) -> str:
    return diagnose_exit(code, run or step(), env or {}, output, UNKNOWN).hint


TOO_LONG = "imagewright: exec /bin/sh: Argument list too long"


def test_the_hint_tells_a_long_argument_from_too_many() -> None:
    exact, over = step("/bin/sh", "-c", "x" * LONGEST_BYTES), step("/bin/sh", "-c", "x" * (LONGEST_BYTES + 1))
    assert "this command has 128 KiB" in hint(126, TOO_LONG, run=over)
    assert "together" in hint(126, TOO_LONG, run=exact)
    assert "bytes" not in hint(126, run=over), "only if that is the cause"


def test_the_hint_names_a_long_variable_without_its_value() -> None:
    name = "V" * 10
    exact, over = {name: "x" * (LONGEST_BYTES - 11)}, {name: "ß" * (LONGEST_BYTES // 2)}
    assert f"variable, and {name} has 128 KiB. Put" in hint(126, TOO_LONG, env=over)
    assert "together" in hint(126, TOO_LONG, env=exact)
    assert "ß" not in hint(126, TOO_LONG, env=over)


@pytest.mark.parametrize(
    ("code", "output", "expected"),
    [
        (126, "sh: 1: rm: Argument list too long", "xargs"),
        (126, "/bin/bash: line 1: /bin/rm: Argument list too long", "xargs"),
        (126, "imagewright: /work: Permission denied", "WORKDIR"),
        (126, "imagewright: cannot run as 1000:1000: Operation not permitted", "SETUID"),
        (126, "imagewright: exec /x: Exec format error", "architecture"),
        (126, "bash: ./x: cannot execute binary file: Exec format error", "architecture"),
        (126, "sh: ping: Operation not permitted", "setcap"),
        (126, "sh: ./x: Permission denied", "mode"),
        (126, "", "mode"),
        (127, "sh: apt: not found", "PATH"),
        (127, "", "PATH"),
        (127, "x: error while loading shared libraries: liby.so.1: cannot open shared object file", "library"),
        (127, "Error loading shared library liby.so.1: No such file or directory (needed by /x)", "library"),
        (127, "imagewright: exec /bin/sh: executable or its interpreter not found", 'The image has no "/bin/sh"'),
    ],
)
def test_hints_for_output_of_shells_and_sandbox(code: int, output: str, expected: str) -> None:
    assert expected in hint(code, "before", output)


def test_the_hint_for_a_path_does_not_mention_the_search_path() -> None:
    line = "imagewright: exec /app/x: executable or its interpreter not found"
    assert "loader" in hint(127, line, run=step("/app/x"))
    assert "PATH" in hint(127, "imagewright: exec x: executable or its interpreter not found", run=step("x"))


def test_the_hint_for_a_script_names_its_interpreter() -> None:
    path = "/dev/pipes/EOF"
    run = step("/bin/sh", "-c", path, script=Script(path, "#!/usr/bin/perl -w\n1"))
    assert hint(127, f"/bin/sh: {path}: not found", run=run).startswith(
        'The image has no interpreter "/usr/bin/perl -w"'
    )
    assert "PATH" in hint(127, "line 2: x: not found", run=run)
    run = step("/bin/sh", "-c", path, script=Script(path, "#!/bin/sh\r\n1"))
    assert "carriage return" in hint(127, f"/bin/sh: {path}: not found", run=run)


@pytest.mark.parametrize("code", [0, 1, 2, 130, 139, 143])
def test_other_exit_codes_have_no_hint(code: int) -> None:
    assert hint(code, "words") == ""


def test_memory_is_blamed_only_if_the_kernel_may_have_killed() -> None:
    assert "memory limit" in diagnose_exit(137, step(), {}, [], UNKNOWN).hint
    known = diagnose_exit(137, step(), {}, [], NOT_SHORT)
    assert (known.reason, known.detail) == (Reason.STEP_FAILED, "")
    assert "not for lack of memory" in known.hint
    for code in (1, 137):
        found = diagnose_exit(code, step(), {}, [], AT_THE_LIMIT)
        assert (found.reason, found.detail.rpartition(" ")[2]) == (Reason.OUT_OF_MEMORY, "4096Mi")
        assert diagnose_exit(code, step(), {}, [], OF_THE_NODE).reason is Reason.NODE_OUT_OF_MEMORY


def test_without_counters_of_the_container_those_of_the_machine_can_only_rule_a_kill_out() -> None:
    assert memory(None, (3, 3)).killed is False
    assert memory(None, (3, 4)).killed is None, "it may have been another container's"
    assert memory(None, (None, 3)).killed is memory(None, (3, None)).killed is None
    assert memory(BEFORE, (3, 4)).killed is False
    found = diagnose_exit(137, step(), {}, [], memory(None, (3, 4)))
    assert (found.reason, found.detail) == (Reason.STEP_FAILED, "")


def test_the_hint_for_a_lost_runner_depends_on_memory() -> None:
    unknown, known = diagnose_lost_runner(UNKNOWN), diagnose_lost_runner(NOT_SHORT)
    assert unknown.reason is known.reason is Reason.SANDBOX_UNAVAILABLE
    assert "memory limit" in unknown.hint
    assert "pkill" in unknown.hint
    assert "pkill" in known.hint
    assert "limit" not in known.hint
    assert diagnose_lost_runner(AT_THE_LIMIT).reason is Reason.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "line",
    [
        "/bin/sh: can't fork: Resource temporarily unavailable",
        "/bin/sh: 1: Cannot fork: Resource temporarily unavailable",
        "bash: fork: retry: Resource temporarily unavailable",
        "RuntimeError: can't start new thread",
        "make: posix_spawn: Resource temporarily unavailable",
        "OpenBLAS blas_thread_init: pthread_create failed for thread 3 of 8: Resource temporarily unavailable",
    ],
)
def test_a_refused_process_or_thread_is_told_from_other_failures(line: str) -> None:
    assert "podPidsLimit" in hint(2, line, "make: *** [all] Error 1")
    assert hint(2, line.replace("Resource temporarily unavailable", "no").replace("thread", "rope")) == ""


def test_too_many_open_files_are_named() -> None:
    assert "ulimit -n" in hint(1, "tar: a: Cannot open: Too many open files")
    assert hint(1, "read: Resource temporarily unavailable") == "", "of a socket or a lock, not of a process"
