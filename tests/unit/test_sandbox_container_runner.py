"""A runner in another container that lies, and one that does not come: what the engine makes of it."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagewright.contract.request import SandboxKind
from imagewright.errors import Reason, SandboxError
from imagewright.sandbox.model import Counts, MemoryUse, RunCommand, RunnerLost
from imagewright.sandbox.processes.connection import pack
from imagewright.sandbox.runner import container
from imagewright.sandbox.runner.container import ContainerRunner, RunnerListener, dismiss

BIG = (1 << 63) - 1
COMMAND = RunCommand("/", ("true",), (), "/")


@pytest.fixture
def ends() -> Iterator[tuple[ContainerRunner, socket.socket]]:
    ours, theirs = socket.socketpair()
    runner = ContainerRunner(ours, os.open("/", os.O_RDONLY), b"")
    with theirs, ours:
        yield runner, theirs
        runner.close()


def answering(theirs: socket.socket, answer: bytes) -> threading.Thread:
    """Takes one request, and sends these bytes."""

    def serve() -> None:
        theirs.recv(1 << 16)
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        pack(b""),
        pack(b"not JSON"),
        pack(b"[]"),
        pack(b"{}"),
        pack(b'{"code": "x"}'),
        pack(b'{"code": null}'),
        pack(b'{"error": 1}'),
        pack(b'{"code": 1e999}'),
        pack(b'{"code": 1.0}'),
        pack(b'{"code": NaN}'),
        pack(b'{"code": -9}'),
        pack(b'{"code": 256}'),
        pack(b'{"code": true}'),
        pack(b'{"code": "7"}'),
        pack(b'{"code": %s}' % (b"9" * 5000)),
        pack(b'{"code": 0, "more": 1}'),
        pack(b'{"code": 0, "error": "x", "errno": null, "hint": ""}'),
        pack(b'{"error": "x", "errno": null}'),
        pack(b'{"error": 5, "errno": 28, "hint": ""}'),
        pack(b'{"error": "x", "errno": null, "hint": null}'),
        pack(b'{"error": "x", "errno": [], "hint": ""}'),
        pack(b'{"error": "x", "errno": -1, "hint": ""}'),
        pack(b'{"error": "x", "errno": 4096, "hint": ""}'),
        pack(b"[" * 60000),
        pack(b"5"),
        pack(b'"error"'),
        pack(b"\xff\xfe"),
        struct.pack("!I", (1 << 32) - 1) + b"x" * 100,
        struct.pack("!I", (1 << 16) + 1) + b" " * (1 << 16) + b"1",
        b"\0\0",
    ],
)
def test_a_lie_is_a_lost_runner(ends: tuple[ContainerRunner, socket.socket], answer: bytes) -> None:
    runner, theirs = ends
    thread = answering(theirs, answer)
    with pytest.raises(RunnerLost) as caught:
        runner.run(SandboxKind.ROOT, COMMAND, lambda _: None)
    assert caught.value.message.startswith('the container "runner", which runs commands, ')
    thread.join()


def test_after_a_lie_the_runner_is_not_asked_again(ends: tuple[ContainerRunner, socket.socket]) -> None:
    """It may never answer."""
    runner, theirs = ends
    theirs.sendall(pack(b"a lie"))
    with pytest.raises(RunnerLost, match="an invalid answer"):
        runner.run(SandboxKind.ROOT, COMMAND, lambda _: None)
    assert runner.memory() == Counts(None, None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot mount", "cannot mount"),
        ("\x1b[2Jx\nForged: line\r\u202e", r"\x1b[2Jx\nForged: line\r\u202e"),
        ("\udcff", r"\udcff"),
        ("x" * 5000, "x" * 1000),
    ],
)
def test_texts_are_short_and_printable(ends: tuple[ContainerRunner, socket.socket], text: str, shown: str) -> None:
    runner, theirs = ends
    thread = answering(theirs, pack(json.dumps({"error": text, "errno": 28, "hint": text}).encode()))
    with pytest.raises(SandboxError) as caught:
        runner.run(SandboxKind.ROOT, COMMAND, lambda _: None)
    assert (caught.value.message, caught.value.hint) == (shown, shown)
    assert caught.value.reason is Reason.DISK_FULL
    caught.value.render().encode()
    thread.join()


def test_an_honest_answer_is_the_exit_code(ends: tuple[ContainerRunner, socket.socket]) -> None:
    runner, theirs = ends
    for code in (0, 3, 255):
        theirs.sendall(pack(b'{"code": %d}' % code))
        assert runner.run(SandboxKind.ROOT, COMMAND, lambda _: None) == code


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ({"group": {"kills": 1, "peak": 5, "limit": None}, "machine_kills": 2}, Counts(MemoryUse(1, 5, None), 2)),
        ({"group": None, "machine_kills": None}, Counts(None, None)),
        ({"group": {"kills": "many", "peak": 5, "limit": 6}, "machine_kills": 2}, Counts(None, None)),
        ({"group": {"kills": 0, "peak": None, "limit": BIG}, "machine_kills": 0}, Counts(MemoryUse(0, None, BIG), 0)),
        ({"group": {"kills": 1, "peak": 5, "limit": BIG + 1}, "machine_kills": 2}, Counts(None, None)),
        ({"group": {"kills": 1, "peak": -5, "limit": 6}, "machine_kills": 2}, Counts(None, None)),
        ({"group": {"kills": 1e300, "peak": None, "limit": None}, "machine_kills": None}, Counts(None, None)),
        ({"group": {"kills": float("inf"), "peak": None, "limit": None}, "machine_kills": None}, Counts(None, None)),
        ({"group": {"kills": None, "peak": None, "limit": None}, "machine_kills": None}, Counts(None, None)),
        ({"group": {"kills": 1, "peak": 5}, "machine_kills": 2}, Counts(None, None)),
        ({"group": None, "machine_kills": "2"}, Counts(None, None)),
        ({"group": None, "machine_kills": True}, Counts(None, None)),
        ({"group": None}, Counts(None, None)),
        ({"group": []}, Counts(None, None)),
        ({"group": [], "machine_kills": 2}, Counts(None, None)),
        ([], Counts(None, None)),
    ],
)
def test_counters_are_numbers_or_unknown(
    ends: tuple[ContainerRunner, socket.socket], answer: object, counts: Counts
) -> None:
    runner, theirs = ends
    thread = answering(theirs, pack(json.dumps(answer).encode()))
    assert runner.memory() == counts
    thread.join()


def test_counters_nested_without_end_are_unknown(ends: tuple[ContainerRunner, socket.socket]) -> None:
    runner, theirs = ends
    thread = answering(theirs, pack(b"[" * 60000))
    assert runner.memory() == Counts(None, None)
    thread.join()


def test_counters_of_a_runner_that_has_gone_are_unknown(ends: tuple[ContainerRunner, socket.socket]) -> None:
    runner, theirs = ends
    theirs.close()
    assert runner.memory() == Counts(None, None)


def test_closing_ends_a_command_that_runs(ends: tuple[ContainerRunner, socket.socket]) -> None:
    runner, theirs = ends
    caught: list[str] = []

    def run() -> None:
        with pytest.raises(SandboxError) as error:
            runner.run(SandboxKind.ROOT, COMMAND, lambda _: None)
        caught.append(error.value.message)

    thread = threading.Thread(target=run)
    thread.start()
    theirs.recv(1)
    runner.close()
    thread.join()
    assert "was stopped" in caught[0]
    with pytest.raises(SandboxError, match="was stopped"):
        runner.run(SandboxKind.ROOT, COMMAND, lambda _: None)


def test_a_runner_that_does_not_come_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "_PATIENCE_S", 0.01)
    with pytest.raises(SandboxError, match=r'the container "runner", .* did not connect within 0\.01 s') as caught:
        RunnerListener(str(tmp_path / "socket")).accept()
    assert "kubectl logs POD -c runner" in caught.value.hint
    assert "kubectl describe pod POD" in caught.value.hint
    refuses(tmp_path / "socket")


def refuses(path: Path) -> None:
    """A runner that comes late exits; if it found no file, it would wait."""
    with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
        late.connect(str(path))


@pytest.mark.parametrize("hello", [b"", b"\0\0", pack(b"a table")[:-1]])
def test_a_runner_that_says_nothing_or_half_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hello: bytes
) -> None:
    monkeypatch.setattr(container, "_PATIENCE_S", 0.01)
    listener = RunnerListener(str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(tmp_path / "socket"))
        if hello:
            socket.send_fds(line, [hello], [line.fileno()])
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(SandboxError, match="ended at once"):
            listener.accept()
        assert len(os.listdir("/proc/self/fd")) == before - 1, "without the listener's"


def test_a_mount_table_without_end_is_refused(listening: Callable[[bytes], tuple[RunnerListener, Path]]) -> None:
    listener, _ = listening(struct.pack("!I", (1 << 24) + 1) + b"x" * 1000)
    with pytest.raises(SandboxError, match="ended at once"):
        listener.accept()


def test_a_socket_of_an_engine_that_ran_before_is_replaced(tmp_path: Path) -> None:
    dismiss(str(tmp_path / "socket.new"))  # as one that was killed while it started
    for _ in range(2):
        RunnerListener(str(tmp_path / "socket")).close()
        refuses(tmp_path / "socket")


def test_a_runner_that_waits_is_dismissed(tmp_path: Path) -> None:
    dismiss(str(tmp_path / "socket"))
    refuses(tmp_path / "socket")
    dismiss(str(tmp_path / "socket"))
    dismiss(str(tmp_path / "no runner/socket"))


def test_a_place_where_the_engine_cannot_listen_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SandboxError, match=f'cannot listen on "{tmp_path}/none/socket" for the runner: No such'
    ) as caught:
        RunnerListener(str(tmp_path / "none/socket"))
    assert "webhooks" in caught.value.hint


@pytest.fixture
def listening(tmp_path: Path) -> Callable[[bytes], tuple[RunnerListener, Path]]:
    def listen(hello: bytes) -> tuple[RunnerListener, Path]:
        listener = RunnerListener(str(tmp_path / "socket"))
        line = socket.socket(socket.AF_UNIX)
        line.connect(str(tmp_path / "socket"))
        line.sendall(hello)
        line.close()
        return listener, tmp_path / "socket"

    return listen


def test_a_runner_without_a_root_is_refused(listening: Callable[[bytes], tuple[RunnerListener, Path]]) -> None:
    listener, _ = listening(pack(b"a mount table without a descriptor"))
    with pytest.raises(SandboxError, match="does not run as root"):
        listener.accept()


def test_a_runner_that_ends_before_it_says_anything_is_reported(
    listening: Callable[[bytes], tuple[RunnerListener, Path]],
) -> None:
    listener, _ = listening(b"")
    with pytest.raises(SandboxError, match="ended at once"):
        listener.accept()


def test_a_runner_finds_a_socket_only_once_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection means that the engine has exited, and the runner exits as well."""
    path = str(tmp_path / "socket")
    refused: list[bool] = []

    class Early(socket.socket):
        def listen(self, backlog: int = 1, /) -> None:
            with socket.socket(socket.AF_UNIX) as runner, pytest.raises(FileNotFoundError):
                runner.connect(path)
            refused.append(True)
            super().listen(backlog)

    monkeypatch.setattr(container.socket, "socket", Early)
    RunnerListener(path).close()
    assert refused == [True]


def test_only_the_first_runner_is_accepted(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    listener = RunnerListener(path)
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.connect(path)
        socket.send_fds(first, [pack(b"table")], [0])
        assert listener.accept().mounts == b"table"
        with pytest.raises(ConnectionRefusedError):
            second.connect(path)
