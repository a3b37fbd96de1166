"""What RUN can rely on in every mode: exit codes, output, environment, user, signals, capabilities, no leftovers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagewright.contract.request import SandboxKind
from imagewright.errors import SandboxError
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.model import RunCommand
from imagewright.sandbox.runner.client import Runner

if TYPE_CHECKING:
    from conftest import Mode

pytestmark = pytest.mark.root

DOCKER_DEFAULT = "a80425fb"
WITHOUT_CHROOT_AND_MKNOD = "a00025fb"


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -PIPE $$", 141)],
)
def test_exit_codes_are_those_of_shells(mode: Mode, script: str, code: int) -> None:
    assert mode.sh(script).code == code


def test_missing_program_exits_127_and_is_named(mode: Mode) -> None:
    outcome = mode.run("/no/such/program")
    assert outcome.code == 127
    assert "exec /no/such/program: executable or its interpreter not found" in outcome.text


def test_program_without_permission_exits_126_and_is_named(mode: Mode) -> None:
    outcome = mode.run("/bin")
    assert outcome.code == 126
    assert "exec /bin: Permission denied" in outcome.text


def test_workdir_that_is_a_file_is_named(mode: Mode) -> None:
    outcome = mode.command(RunCommand(str(mode.rootfs), ("/bin/sh",), (), "/bin/sh"))
    assert outcome.code == 126
    assert "/bin/sh: Not a directory" in outcome.text


def test_output_arrives_while_the_command_runs(mode: Mode) -> None:
    signal = Path(str(mode.rootfs) + mode.inside) / "seen"
    signal.unlink(missing_ok=True)
    inside = f"{mode.inside.rstrip('/')}/seen"
    seen: list[bytes] = []

    def output(data: bytes) -> None:
        seen.append(data)
        if b"first" in data:
            signal.touch()  # the command waits for it

    script = f"echo first; while [ ! -e {inside} ]; do sleep 0.02; done; echo second >&2"
    command = RunCommand(str(mode.rootfs), ("/bin/sh", "-c", script), (("PATH", "/bin:/usr/bin"),), "/")
    assert mode.execute(command, output) == 0
    assert b"".join(seen) == b"first\nsecond\n"


def test_standard_input_is_empty(mode: Mode) -> None:
    assert mode.sh("cat; echo end").text == "end\n"


def test_large_output_is_complete(mode: Mode) -> None:
    assert len(mode.sh("head -c 3000000 /dev/zero").text) == 3_000_000


def test_environment_is_exactly_the_given_one(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PASSWORD", "secret")
    program = "/bin/env" if mode.kind is not SandboxKind.ROOT else "/usr/bin/env"
    assert mode.run(program, env={"A": "1", "B": "x=y z"}).text == "A=1\nB=x=y z\n"


def test_undecodable_names_are_preserved(mode: Mode) -> None:
    chunks: list[bytes] = []
    name = os.fsdecode(b"caf\xe9")
    command = RunCommand(str(mode.rootfs), ("/bin/sh", "-c", 'printf %s "$1$X"', "sh", name), (("X", name),), "/")
    mode.execute(command, chunks.append)
    assert b"".join(chunks) == b"caf\xe9caf\xe9"


def test_user_group_groups_and_umask(mode: Mode) -> None:
    outcome = mode.run(mode.attack, "ids", user=(1234, 2345, 10, 3456))
    assert outcome.text == "uid 1234 euid 1234 gid 2345 umask 022 groups 10 3456\n"


def test_root_has_no_supplementary_groups_by_default(mode: Mode) -> None:
    assert mode.run(mode.attack, "ids").text == "uid 0 euid 0 gid 0 umask 022 groups\n"


def test_capabilities_are_docker_s_defaults(mode: Mode) -> None:
    expected = WITHOUT_CHROOT_AND_MKNOD if mode.kind is SandboxKind.CHROOT else DOCKER_DEFAULT
    outcome = mode.run(mode.attack, "caps")
    assert outcome.text == f"bounding {expected} permitted 0{expected} inheritable 000000000\n"


def test_an_ordinary_user_has_no_capabilities(mode: Mode) -> None:
    assert " permitted 000000000 " in mode.run(mode.attack, "caps", user=(1000, 1000)).text


def test_setuid_programs_work(mode: Mode) -> None:
    directory = Path(str(mode.rootfs) + mode.inside)
    raised = directory / "raised"
    raised.write_bytes(Path(str(mode.rootfs) + mode.attack).read_bytes())
    raised.chmod(0o4755)
    outcome = mode.run(f"{mode.inside.rstrip('/')}/raised", "ids", user=(1000, 1000))
    assert outcome.text.startswith("uid 1000 euid 0 ")


def test_daemons_end_with_their_step(mode: Mode, running: Callable[[str], list[str]]) -> None:
    name = f"9{time.time_ns() % 10**9}"
    outcome = mode.sh(
        f"(trap '' TERM HUP; setsid sleep {name} >/dev/null 2>&1 &) ; nohup sleep {name} & sleep {name} & exit 4"
    )
    assert outcome.code == 4
    assert running(f"sleep\0{name}") == []


def test_commands_run_after_one_another(mode: Mode) -> None:
    assert [mode.sh(f"echo {i}").text for i in range(3)] == ["0\n", "1\n", "2\n"]


def test_killed_runner_is_reported(work: Path) -> None:
    before = children()
    runner = Runner(str(work))
    (pid,) = children() - before
    command = RunCommand("/", ("/bin/sh", "-c", "true"), (), "/")
    assert runner.run(SandboxKind.ROOT, command, lambda data: None) == 0
    os.kill(pid, 9)
    with pytest.raises(SandboxError, match=r"gone|exited unexpectedly"):
        runner.run(SandboxKind.ROOT, command, lambda data: None)
    runner.close()


def children() -> set[int]:
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
            found.add(int(pid))
    return found


def test_capability_set_is_docker_s() -> None:
    assert f"{sum(1 << number for number in linux.DEFAULT_CAPABILITIES):08x}" == DOCKER_DEFAULT
