"""Forked processes: what they inherit, and that nobody waits for one that has exited. Needs no root."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from imagewright.sandbox.processes.child import Child, Parent, spawn


@pytest.fixture(autouse=True)
def not_for_ever() -> Iterator[None]:
    """An endless wait fails the test instead of blocking the run."""

    def give_up(*_: object) -> None:
        raise AssertionError("waits for what will never come")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["by the kernel", "by looking"])
def watched(request: pytest.FixtureRequest) -> Callable[[Child], Child]:
    """A child whose exit is reported by a pidfd, or found by polling if there are none."""

    def watch(child: Child) -> Child:
        if request.param == "by looking":
            os.close(child._pidfd)
            child._pidfd = -1
        return child

    return watch


def test_child_has_only_the_given_descriptors() -> None:
    (kept, other), (third, fourth) = os.pipe(), os.pipe()

    def body(parent: Parent) -> int:
        parent.send(json.dumps([int(fd) for fd in os.listdir("/proc/self/fd")]).encode())
        return 0

    child = spawn(body, keep=[kept])
    found = set(json.loads(child.receive() or b""))
    assert child.wait() == 0
    for fd in (kept, other, third, fourth):
        os.close(fd)
    assert {0, 1, 2, kept} <= found
    assert not found & {other, third, fourth}
    assert len(found) == 6, "plus the connection, and the descriptor that reads the directory"


def test_killed_child_ends_the_wait_despite_shared_pipes(watched: Callable[[Child], Child]) -> None:
    """As a process that it left behind may, or one to which it sent them."""
    read, write = os.pipe()

    def body(parent: Parent) -> int:
        if os.fork() == 0:
            parent.send(str(os.getpid()).encode())
        signal.pause()
        return 0

    child = watched(spawn(body, keep=[write]))
    left = int(child.receive() or b"")
    child.kill()
    assert child.receive(read) is None
    assert os.waitstatus_to_exitcode(child.wait()) == -signal.SIGKILL
    for fd in (read, write):
        os.close(fd)
    os.kill(left, signal.SIGKILL)


def test_endless_output_does_not_delay_the_answer() -> None:
    """A process that outlived its command writes on; what came before the answer is read."""
    read, write = os.pipe()

    def body(parent: Parent) -> int:
        os.write(write, b"before")
        parent.send(b"answer")
        return 0

    chunks: list[bytes] = []

    def output(data: bytes) -> None:
        chunks.append(data)
        os.write(write, b"more")  # there is always more to be read

    child = spawn(body, keep=[write])
    assert child.receive(read, output) == b"answer"
    assert child.receive(read, output) is None
    assert child.wait() == 0
    for fd in (read, write):
        os.close(fd)
    assert chunks[0] == b"before"


def test_sending_to_a_killed_child_does_not_block(watched: Callable[[Child], Child]) -> None:
    def body(parent: Parent) -> int:
        if os.fork() == 0:
            parent.send(str(os.getpid()).encode())
        signal.pause()
        return 0

    child = watched(spawn(body))
    left = int(child.receive() or b"")  # it holds the other end, and reads nothing
    child.kill()
    with pytest.raises(BrokenPipeError):
        child.send(b"x" * 10_000_000)
    child.wait()
    os.kill(left, signal.SIGKILL)


def test_child_exits_if_its_parent_has_already_exited() -> None:
    """The parent's death is only signalled if it happens after the request."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            Parent(theirs).receive()  # None: it has gone
            Parent(theirs).bind_lifetime()
        finally:
            os._exit(0)
    ours.close()
    theirs.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 125


def test_messages_of_any_size_arrive_complete() -> None:
    def body(parent: Parent) -> int:
        while (received := parent.receive()) is not None:
            message, fds = received
            for fd in fds:
                os.write(fd, b"here")
                os.close(fd)
            parent.send(message[::-1])
        return 7

    read, write = os.pipe()
    child = spawn(body)
    child.send(b"ab" * 1_000_000, [write])
    os.close(write)
    chunks: list[bytes] = []
    assert child.receive(read, chunks.append) == b"ba" * 1_000_000
    child.send(b"")
    assert child.receive(read, chunks.append) == b""
    assert chunks == [b"here"]
    os.close(read)
    child.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == 7


def test_traceback_of_a_bug_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    child = spawn(lambda parent: 1 // 0)
    assert os.waitstatus_to_exitcode(child.wait()) == 125
    assert "ZeroDivisionError" in capfd.readouterr().err
