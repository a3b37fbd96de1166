"""Hints name the cause that the words and counts beside an exit code show, and no other."""

from __future__ import annotations

import pytest

from imagewright.engine.steps.diagnosis import LONGEST_BYTES, Memory, why_failed, why_lost
from imagewright.errors import Location, Reason
from imagewright.plan.steps import RunStep, Script, StepText
from imagewright.sandbox.kernel.memory import Counts, MemoryUse

GI = 1 << 30
BEFORE = MemoryUse(1, GI, 4 * GI)


def memory(after: MemoryUse | None, machine: tuple[int | None, int | None] = (1, 2)) -> Memory:
    """``machine`` are the kills on the whole machine, before and after."""
    return Memory(Counts(BEFORE if after else None, machine[0]), Counts(after, machine[1]))


UNKNOWN = memory(None, (None, None))
NOT_SHORT = memory(BEFORE)
AT_THE_LIMIT = memory(MemoryUse(2, 4 * GI, 4 * GI))
OF_THE_NODE = memory(MemoryUse(2, GI, 4 * GI))


def step(*argv: str, script: Script | None = None) -> RunStep:
    text = StepText("RUN x", "RUN x", Location("Dockerfile", 1))
    return RunStep(text, argv or ("/bin/sh", "-c", "x"), (), "", "/work", script=script)


def hint(code: int, *output: str, run: RunStep | None = None, env: dict[str, str] | None = None) -> str:
    return why_failed(code, run or step(), env or {}, output, UNKNOWN).hint


TOO_LONG = "imagewright: exec /bin/sh: Argument list too long"


def test_a_command_that_is_too_long() -> None:
    exact, over = step("/bin/sh", "-c", "x" * LONGEST_BYTES), step("/bin/sh", "-c", "x" * (LONGEST_BYTES + 1))
    assert "this command has 128" in hint(126, TOO_LONG, run=over)
    assert "together" in hint(126, TOO_LONG, run=exact)
    assert "bytes" not in hint(126, run=over), "where that is not why, it isn't said"


def test_a_variable_that_is_too_long_is_named_and_its_value_not_shown() -> None:
    name = "V" * 10
    exact, over = {name: "x" * (LONGEST_BYTES - 11)}, {name: "ß" * (LONGEST_BYTES // 2)}
    assert f"variable, and {name} has 128: put" in hint(126, TOO_LONG, env=over)
    assert "together" in hint(126, TOO_LONG, env=exact)
    assert "ß" not in hint(126, TOO_LONG, env=over)


@pytest.mark.parametrize(
    ("code", "output", "said"),
    [
        (126, "sh: 1: rm: Argument list too long", "xargs"),
        (126, "/bin/bash: line 1: /bin/rm: Argument list too long", "xargs"),
        (126, "imagewright: /work: Permission denied", "WORKDIR"),
        (126, "imagewright: can't run as 1000:1000: Operation not permitted", "SETUID"),
        (126, "imagewright: exec /x: Exec format error", "architecture"),
        (126, "bash: ./x: cannot execute binary file: Exec format error", "architecture"),
        (126, "sh: ping: Operation not permitted", "setcap"),
        (126, "sh: ./x: Permission denied", "mode"),
        (126, "", "mode"),
        (127, "sh: apt: not found", "PATH"),
        (127, "", "PATH"),
        (127, "x: error while loading shared libraries: liby.so.1: cannot open shared object file", "library"),
        (127, "Error loading shared library liby.so.1: No such file or directory (needed by /x)", "library"),
        (127, "imagewright: exec /bin/sh: not found (or its interpreter isn't)", "The image has no /bin/sh"),
    ],
)
def test_what_the_words_say(code: int, output: str, said: str) -> None:
    assert said in hint(code, "before", output)


def test_a_program_that_is_named_by_its_path_is_looked_for_nowhere_else() -> None:
    said = "imagewright: exec /app/x: not found (or its interpreter isn't)"
    assert "loader" in hint(127, said, run=step("/app/x"))
    assert "PATH" in hint(127, "imagewright: exec x: not found (or its interpreter isn't)", run=step("x"))


def test_what_a_scripts_first_line_names() -> None:
    path = "/dev/pipes/EOF"
    run = step("/bin/sh", "-c", path, script=Script(path, "#!/usr/bin/perl -w\n1"))
    assert hint(127, f"/bin/sh: {path}: not found", run=run).endswith("not in the image: /usr/bin/perl -w.")
    assert "PATH" in hint(127, "line 2: x: not found", run=run)
    run = step("/bin/sh", "-c", path, script=Script(path, "#!/bin/sh\r\n1"))
    assert "Windows" in hint(127, f"/bin/sh: {path}: not found", run=run)


@pytest.mark.parametrize("code", [0, 1, 2, 130, 139, 143])
def test_other_exit_codes_say_enough_themselves(code: int) -> None:
    assert hint(code, "words") == ""


def test_memory_is_blamed_only_where_the_kernel_may_have_killed() -> None:
    assert "memory limit" in why_failed(137, step(), {}, [], UNKNOWN).hint
    known = why_failed(137, step(), {}, [], NOT_SHORT)
    assert (known.reason, known.words) == (Reason.STEP_FAILED, "")
    assert "not for want of memory" in known.hint
    for code in (1, 137):
        found = why_failed(code, step(), {}, [], AT_THE_LIMIT)
        assert (found.reason, found.words.rpartition(" ")[2]) == (Reason.OUT_OF_MEMORY, "4096Mi")
        assert why_failed(code, step(), {}, [], OF_THE_NODE).reason is Reason.NODE_OUT_OF_MEMORY


def test_of_an_unseen_group_the_machines_kills_say_at_least_that_there_were_none() -> None:
    assert memory(None, (3, 3)).killed is False
    assert memory(None, (3, 4)).killed is None, "whose it was is not known"
    assert memory(None, (None, 3)).killed is memory(None, (3, None)).killed is None
    assert memory(BEFORE, (3, 4)).killed is False
    found = why_failed(137, step(), {}, [], memory(None, (3, 4)))
    assert (found.reason, found.words) == (Reason.STEP_FAILED, "")


def test_who_ended_the_process_that_starts_commands() -> None:
    unknown, known = why_lost(UNKNOWN), why_lost(NOT_SHORT)
    assert unknown.reason is known.reason is Reason.SANDBOX_UNAVAILABLE
    assert "memory limit" in unknown.hint
    assert "pkill" in unknown.hint
    assert "pkill" in known.hint
    assert "limit" not in known.hint
    assert why_lost(AT_THE_LIMIT).reason is Reason.OUT_OF_MEMORY
