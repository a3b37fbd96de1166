"""Keys served by an agent, and the user's own agent behind a filter, with OpenSSH's programs on both sides."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from imagebuilds.waiting import eventually
from servers.ssh import SshServer

from imagewright.contract.request import SshSource
from imagewright.engine.source.sshagents import SshAgents
from imagewright.errors import SandboxError, UsageError
from imagewright.plan.steps import SshMount


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Private keys, as ssh-keygen makes them."""
    folder = tmp_path_factory.mktemp("keys")
    for kind in ("ed25519", "rsa", "ecdsa"):
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", kind, "-f", str(folder / kind)], check=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "word", "-f", str(folder / "locked")], check=True)
    return folder


@pytest.fixture
def keys(made: Path, tmp_path: Path) -> Path:
    """The same, as mounted Secrets and other tools write them."""
    for path in made.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "ed25519").chmod(0o644)
    windows = (tmp_path / "ed25519").read_bytes().rstrip().replace(b"\n", b"\r\n")
    (tmp_path / "windows").write_bytes(windows)
    return tmp_path


def ask(path: str | None, *words: str) -> subprocess.CompletedProcess[str]:
    assert path is not None
    environment = {"PATH": os.environ["PATH"], "SSH_AUTH_SOCK": path}
    return subprocess.run(["ssh-add", *words], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def own_agent(tmp_path: Path) -> Iterator[str]:
    """A user's agent, without keys."""
    path = str(tmp_path / "own")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        # Its socket is there a moment before it listens: ssh-add ends with 2 where no agent answers, with 1 where it
        # has no key.
        eventually(lambda: ask(path, "-l").returncode == 1, "the agent's answer")
        yield path
        process.terminate()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Creates the socket of a RUN --mount=type=ssh for these paths, until the end of the test."""
    with contextlib.ExitStack() as stack:

        def make(*paths: Path | str, folder: Path = tmp_path / "agents", mode: int = 0o600) -> str:
            agents = stack.enter_context(
                contextlib.closing(SshAgents(str(folder), [SshSource(paths=tuple(map(str, paths)))]))
            )
            mount = SshMount("default", "/x", mode=mode, uid=os.geteuid(), gid=os.getegid())
            door = stack.enter_context(agents.socket(mount))
            assert door is not None
            return door

        yield make


def test_keys_are_served_regardless_of_mode_and_line_endings(keys: Path, serve: Callable[..., str]) -> None:
    door = serve(*(keys / name for name in ("windows", "rsa", "ecdsa")))
    assert [line.split()[2] for line in ask(door, "-l").stdout.splitlines()] == ["ed25519", "rsa", "ecdsa"]
    for name in ("ed25519", "rsa", "ecdsa"):
        assert ask(door, "-T", str(keys / f"{name}.pub")).returncode == 0, "it signs"


def test_a_socket_ends_with_its_run_and_the_agent_with_the_build(tmp_path: Path, keys: Path) -> None:
    agents = SshAgents(str(tmp_path / "agents"), [SshSource(paths=(str(keys / "ed25519"),))])
    mount = SshMount("default", "/x", uid=os.geteuid(), gid=os.getegid())
    with agents.socket(mount) as first, agents.socket(mount) as second:
        assert first != second
    for door in (first, second):
        assert door is not None
        assert not os.path.exists(door)
    with agents.socket(mount) as third:
        assert ask(third, "-l").returncode == 0
    agent = str(tmp_path / "agents" / "agent-0" / "socket")
    assert ask(agent, "-l").returncode == 0
    agents.close()
    agents.close()
    eventually(lambda: ask(agent, "-l").returncode == 2, "the agent's end")


def test_agents_that_were_stopped_end_too(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As RUN kill -STOP -1 leaves them, where RUN sees the engine's processes."""
    monkeypatch.setattr("imagewright.engine.source.sshagents._END_S", 0.2)
    agents = SshAgents(str(tmp_path / "agents"), [SshSource(paths=(str(keys / "ed25519"),))])
    with agents.socket(SshMount("default", "/x", uid=os.geteuid(), gid=os.getegid())):
        (agent,) = agents._started
        for pid in (agent.pid, agent.process.pid):
            os.kill(pid, signal.SIGSTOP)
    agents.close()
    assert agent.process.returncode == -signal.SIGKILL
    eventually(lambda: not os.path.exists(f"/proc/{agent.pid}") or "Z" in state(agent.pid), "the agent's end")


def state(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "Z"


def test_an_unknown_id_has_no_socket(tmp_path: Path) -> None:
    with SshAgents(str(tmp_path / "agents"), []).socket(SshMount("other", "/x")) as door:
        assert door is None


def test_a_command_logs_in_with_the_key(tmp_path: Path, ssh: SshServer, serve: Callable[..., str]) -> None:
    (tmp_path / "key").write_bytes(ssh.identity)
    command = [
        "ssh", "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "BatchMode=yes", "-o", f"IdentityAgent={serve(tmp_path / 'key')}", "-p", str(ssh.port),
        f"{ssh.user}@127.0.0.1", "echo in",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "in\n", done.stderr


def test_no_command_changes_the_users_own_agent(keys: Path, own_agent: str, serve: Callable[..., str]) -> None:
    subprocess.run(["ssh-add", "-q", str(keys / "rsa")], env={**os.environ, "SSH_AUTH_SOCK": own_agent}, check=True)
    door = serve(own_agent)
    assert ask(door, "-T", str(keys / "rsa.pub")).returncode == 0
    assert ask(door, "-D").returncode != 0
    assert ask(door, "-d", str(keys / "rsa.pub")).returncode != 0
    assert ask(door, str(keys / "ecdsa")).returncode != 0
    assert [line.split()[2] for line in ask(own_agent, "-l").stdout.splitlines()] == ["rsa"]


@pytest.mark.parametrize(
    "sent", [b"\0\0\0\0", b"\xff\xff\xff\xff\x0b", b"\0\0\0", b"\0\0\0\1\x0b" * 50, b"\0\0\0\1\x13" * 50]
)
def test_an_invalid_request_ends_only_its_connection(keys: Path, serve: Callable[..., str], sent: bytes) -> None:
    door = serve(keys / "rsa")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(door)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
    assert ask(door, "-T", str(keys / "rsa.pub")).returncode == 0


def test_the_socket_has_the_mounts_mode(keys: Path, serve: Callable[..., str]) -> None:
    assert stat.S_IMODE(os.stat(serve(keys / "rsa", mode=0o640)).st_mode) == 0o640


def test_a_long_path_works(tmp_path: Path, keys: Path, serve: Callable[..., str]) -> None:
    folder = tmp_path / ("long" * 20) / ("long" * 20)
    door = serve(keys / "rsa", folder=folder)
    (tmp_path / "short").symlink_to(folder)
    assert ask(str(tmp_path / "short" / os.path.basename(door)), "-l").returncode == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [("locked", "passphrase"), ("rsa.pub", "cannot use key"), ("nowhere", "No such file")],
)
def test_an_unusable_key_is_named(keys: Path, serve: Callable[..., str], name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        serve(keys / name)
    assert said in caught.value.render()
    assert str(keys / name) in caught.value.message


def test_a_stale_agent_socket_is_named(tmp_path: Path, serve: Callable[..., str]) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "stale"))
    with pytest.raises(SandboxError, match=r"cannot connect to the agent .*: Connection refused"):
        serve(tmp_path / "stale")


def test_no_agent_outlives_the_engine(tmp_path: Path, keys: Path) -> None:
    """A killed engine cannot end the agent, which sees its standard input close."""
    program = (
        "import os, sys\nfrom imagewright.contract.request import SshSource\nfrom imagewright.engine.source.sshagents import SshAgents\n"
        "from imagewright.plan.steps import SshMount\n"
        f"agents = SshAgents({str(tmp_path / 'agents')!r}, [SshSource(paths=({str(keys / 'rsa')!r},))])\n"
        "with agents.socket(SshMount('default', '/x', uid=os.geteuid(), gid=os.getegid())):\n    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    eventually(lambda: ask(str(tmp_path / "agents" / "agent-0" / "socket"), "-l").returncode == 2, "the agent's end")


def test_a_run_cannot_make_the_engine_start_endless_threads(keys: Path, serve: Callable[..., str]) -> None:
    door = serve(keys / "ed25519")
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(door)
        assert ask(door, "-l").returncode != 0, "one more is turned away"
        assert threading.active_count() - before <= 64
    eventually(lambda: ask(door, "-l").returncode == 0, "a connection, when the others are closed")
