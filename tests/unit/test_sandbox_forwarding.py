"""Connections forwarded from one Unix socket to another: whatever one of them does, the others go on, and all end."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from imagebuilds.waiting import eventually

from imagewright.sandbox.mounts.sockets import MAX_CONNECTIONS, Dialog, Stream, forward, forwarded, reachable

HANGS_S = 60.0  # a test that waits so long has failed
Start = Callable[..., contextlib.AbstractContextManager[str]]
FLOOD = b"\0\0\0\1\x0b" * 100_000


class Server:
    """A socket at ``path``; ``serve`` is called in a thread with each connection."""

    def __init__(self, path: str, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._stopped = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(128)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while not self._stopped:
            with contextlib.suppress(OSError):  # a test takes all descriptors
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self._serve(connection)

    def stop(self) -> None:
        self._stopped = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


def echo(connection: socket.socket) -> None:
    """Send back what arrives, as an agent does that blocks as long as nobody reads."""
    while data := connection.recv(65536):
        connection.sendall(data)


def reply_at_the_end(connection: socket.socket) -> None:
    size = 0
    while data := connection.recv(65536):
        size += len(data)
    connection.sendall(b"%d bytes" % size)


@pytest.fixture
def forwarding(tmp_path: Path) -> Iterator[Start]:
    servers = []

    @contextlib.contextmanager
    def start(serve: Callable[[socket.socket], None] = echo, dialog: Callable[[], Dialog] = Stream) -> Iterator[str]:
        source, path = str(tmp_path / f"source-{len(servers)}"), str(tmp_path / "path")
        servers.append(Server(source, serve))
        with forwarded(path, source, dialog):
            yield path

    yield start
    for server in servers:
        server.stop()


def connect(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(HANGS_S)
    client.connect(path)
    return client


def answered(client: socket.socket) -> socket.socket:
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    return client


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def refuses(client: socket.socket) -> bool:
    """Whether what is sent has nobody who reads it."""
    try:
        client.send(b"x")
    except BrokenPipeError:
        return True
    return False


def flood(path: str) -> socket.socket:
    """A client that sends until nobody takes more, and reads nothing."""
    client = connect(path)
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            client.send(FLOOD)
    return client


def test_a_client_that_floods_and_reads_nothing_holds_up_nobody(forwarding: Start) -> None:
    with forwarding() as path, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(flood(path))
        with connect(path) as honest:
            for word in (b"one", b"two"):
                honest.sendall(word)
                assert honest.recv(100) == word


@pytest.mark.parametrize("stays", [True, False])
def test_forwarding_ends_while_clients_flood(forwarding: Start, stays: bool) -> None:
    """In this state the engine and a build that was cancelled waited forever."""
    ended = threading.Event()

    def forward_and_end() -> None:
        with forwarding() as path:
            clients = [flood(path) for _ in range(3)]
            if not stays:
                for client in clients:
                    client.close()
        ended.set()
        for client in clients:
            client.close()

    threading.Thread(target=forward_and_end, daemon=True).start()
    assert ended.wait(HANGS_S)


class Bulk(Stream):
    """Reads and sends more at a time than a socket takes at once."""

    def expected(self, *, server: bool) -> int:
        return 1 << 20


def test_large_pieces_arrive_whole_and_hold_up_nobody(forwarding: Start) -> None:
    data = os.urandom(3 << 20)
    with forwarding(echo, Bulk) as path, flood(path), connect(path) as client, connect(path) as other:
        sender = threading.Thread(target=client.sendall, args=(data,), daemon=True)
        sender.start()
        received = b""
        while len(received) < len(data):
            received += client.recv(50_000)
            answered(other)
        assert received == data


def test_what_waits_for_a_server_is_bounded(forwarding: Start) -> None:
    finished = threading.Event()
    with forwarding(lambda _: finished.wait() and None) as path, connect(path) as client:
        client.setblocking(False)
        sent = 0
        while sent < 1 << 26 and select.select([], [client], [], 0.5)[1]:
            with contextlib.suppress(BlockingIOError):
                sent += client.send(FLOOD)
        assert sent < 1 << 22
        finished.set()


class Repeated(Stream):
    """The client gets what it sends at once, and again from a server that sends it back."""

    def from_client(self, data: bytes) -> tuple[bytes, bytes]:
        return data, data


def test_what_is_answered_here_is_not_lost_among_what_the_server_sends(forwarding: Start) -> None:
    with forwarding(echo, Repeated) as path, connect(path) as client:
        sender = threading.Thread(target=client.sendall, args=(FLOOD,), daemon=True)
        sender.start()
        received = 0
        while received < 2 * len(FLOOD):
            received += len(client.recv(50_000))
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""


class Counted(Stream):
    """Counts how often it is asked."""

    def __init__(self, all_of_them: list[Counted]) -> None:
        self.asked = 0
        all_of_them.append(self)

    def expected(self, *, server: bool) -> int:
        self.asked += 1
        return super().expected(server=server)


def test_a_half_closed_connection_is_left_alone_until_something_comes(forwarding: Start) -> None:
    """It would otherwise be found readable all the time."""
    dialogs: list[Counted] = []
    finished = threading.Event()

    def serve(connection: socket.socket) -> None:
        if connection.recv(1) == b"w":
            finished.wait()
        echo(connection)

    with forwarding(serve, lambda: Counted(dialogs)) as path, connect(path) as closed, connect(path) as other:
        closed.sendall(b"w")
        closed.shutdown(socket.SHUT_WR)
        other.sendall(b"x")
        for _ in range(300):
            answered(other)
        finished.set()
        assert closed.recv(1) == b""
        assert dialogs[0].asked < 50


def test_the_end_of_one_direction_leaves_the_other(forwarding: Start) -> None:
    with forwarding(reply_at_the_end) as path, connect(path) as client:
        client.sendall(FLOOD)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"%d bytes" % len(FLOOD)


def test_a_server_that_reads_no_more_is_still_heard(forwarding: Start) -> None:
    """What it sent before arrives, and the client is told that nobody reads."""

    def refuse(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_RD)
        connection.sendall(FLOOD)

    with forwarding(refuse) as path, connect(path) as client:
        data = client.recv(1)
        eventually(lambda: refuses(client))
        while len(data) < len(FLOOD):
            data += client.recv(65536)
        assert data == FLOOD


def test_what_nobody_reads_is_not_sent_again(forwarding: Start) -> None:
    """It would be tried all the time."""
    dialogs: list[Counted] = []
    finished = threading.Event()

    def serve(connection: socket.socket) -> None:
        if connection.recv(1) == b"w":
            connection.shutdown(socket.SHUT_RD)
            finished.wait()
        echo(connection)

    with forwarding(serve, lambda: Counted(dialogs)) as path, connect(path) as client, connect(path) as other:
        client.sendall(b"w")
        eventually(lambda: refuses(client))
        before = dialogs[0].asked
        other.sendall(b"x")
        for _ in range(300):
            answered(other)
        assert dialogs[0].asked < before + 50
        finished.set()


def test_the_end_is_passed_on_both_ways(forwarding: Start) -> None:
    seen = []
    with forwarding(lambda connection: seen.append(connection.recv(10))) as path, connect(path) as client:
        client.sendall(b"last")
        assert client.recv(10) == b""
    assert seen == [b"last"]


def test_connections_beyond_the_limit_are_turned_away(forwarding: Start) -> None:
    with forwarding() as path, contextlib.ExitStack() as stack:
        clients = [answered(stack.enter_context(connect(path))) for _ in range(MAX_CONNECTIONS)]
        gc.collect()  # files that other tests have left open
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(MAX_CONNECTIONS):
            assert stack.enter_context(connect(path)).recv(1) == b""
        assert len(os.listdir("/proc/self/fd")) == before + MAX_CONNECTIONS, "those of the clients"
        for client in clients:
            answered(client)


def test_each_connection_that_ends_makes_room_for_another(forwarding: Start) -> None:
    with forwarding() as path, contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS - 1):
            answered(stack.enter_context(connect(path)))
        for _ in range(2 * MAX_CONNECTIONS):
            with answered(connect(path)) as client:
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""


@pytest.fixture
def all_descriptors_taken() -> Iterator[Callable[[], list[int]]]:
    """Takes all descriptors of this process; returns them."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []

    def take() -> list[int]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 4, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        return held

    yield take
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    for fd in held:
        os.close(fd)


class Counting(socket.socket):
    """A listener that counts the attempts to accept a connection."""

    attempts = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.attempts += 1
        return super().accept()


def test_a_lack_of_descriptors_delays_and_ends_nothing(
    tmp_path: Path, forwarding: Start, all_descriptors_taken: Callable[[], list[int]]
) -> None:
    """Nor is a connection that can't be accepted tried all the time."""
    path = str(tmp_path / "counted")
    listener = Counting(socket.AF_UNIX)
    ours, theirs = socket.socketpair()
    with listener, ours, theirs, forwarding(), socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=forward, args=(listener, str(tmp_path / "source-0"), theirs), daemon=True)
        thread.start()
        waiting.settimeout(HANGS_S)
        with answered(connect(path)) as first:
            held = all_descriptors_taken()
            os.close(held.pop())  # a connection takes two
            waiting.connect(path)  # to the queue
            eventually(lambda: listener.attempts > 0)
            for _ in range(1500):
                answered(first)
            assert listener.attempts < 500
            while held:
                os.close(held.pop())
            answered(waiting)
        ours.close()
        thread.join()


def test_nothing_stays_open(forwarding: Start) -> None:
    with forwarding() as path:
        pass
    before = set(os.listdir("/proc/self/fd"))
    with forwarding() as path, contextlib.ExitStack() as stack:
        for _ in range(10):
            flood(path).close()
            stack.enter_context(connect(path))
    assert not os.path.exists(path)
    assert not [thread for thread in threading.enumerate() if thread.name == "socket-forward"]
    eventually(lambda: len(set(os.listdir("/proc/self/fd")) - before) <= 1)  # the listener of the test's server


def test_a_socket_whose_server_is_gone_closes_connections_until_it_is_back(tmp_path: Path) -> None:
    path, source = str(tmp_path / "path"), str(tmp_path / "source")
    with forwarded(path, source):
        for _ in range(2 * MAX_CONNECTIONS):
            with connect(path) as client:
                assert client.recv(1) == b""
        with contextlib.closing(contextlib.ExitStack()) as stack:
            stack.callback(Server(source, echo).stop)
            with connect(path) as client:
                answered(client)


def test_a_server_that_accepts_nothing_holds_up_nobody(tmp_path: Path) -> None:
    """Neither what has been accepted before nor the end."""
    path, source = str(tmp_path / "path"), str(tmp_path / "source")
    ended = threading.Event()

    def connect_and_end() -> None:
        with forwarded(path, source), connect(path) as first:
            accepted, _ = server.accept()
            with contextlib.ExitStack() as stack, accepted:
                with contextlib.suppress(BlockingIOError):  # the queue is full
                    while True:
                        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                        waiting.setblocking(False)
                        waiting.connect(source)
                with connect(path) as refused:
                    assert refused.recv(1) == b""
                first.sendall(b"x")
                assert accepted.recv(1) == b"x"
        ended.set()

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(source)
        server.listen(1)
        threading.Thread(target=connect_and_end, daemon=True).start()
        assert ended.wait(HANGS_S)


def test_a_path_of_any_length_leaves_nothing_open(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with reachable(str(folder / "socket")) as path, socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
        (folder / "socket").unlink()
    assert set(os.listdir("/proc/self/fd")) <= before


class Shouting:
    """Requests of three bytes and answers of two, in turn; ``no!`` is answered here, ``bad`` is invalid."""

    in_turns = True

    def __init__(self) -> None:
        self.data = b""
        self.asked = False

    def expected(self, *, server: bool) -> int:
        return 0 if server is not self.asked else (2 if server else 3) - len(self.data)

    def from_client(self, data: bytes) -> tuple[bytes, bytes]:
        self.data += data
        if len(self.data) < 3:
            return b"", b""
        message, self.data = self.data, b""
        if message == b"bad":
            raise ValueError
        self.asked = message != b"no!"
        return (message, b"") if self.asked else (b"", b"NO")

    def from_server(self, data: bytes) -> bytes:
        self.data += data
        if len(self.data) < 2:
            return b""
        answer, self.data = self.data, b""
        self.asked = False
        return answer.upper()


def answer_in_pieces(connection: socket.socket) -> None:
    while request := connection.recv(3, socket.MSG_WAITALL):
        assert request != b"no!"
        connection.sendall(request[:1])
        connection.sendall(request[1:2])


REQUESTS = [b"abc", b"no!", b"xyz", b"no!", b"no!", b"abc"] * 4


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_a_dialog_in_turns_answers_pipelined_requests_in_order(forwarding: Start, step: int) -> None:
    data = b"".join(REQUESTS)
    with forwarding(answer_in_pieces, Shouting) as path, connect(path) as client:
        for start in range(0, len(data), step):
            client.sendall(data[start : start + step])
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"".join(b"NO" if each == b"no!" else each[:2].upper() for each in REQUESTS)


@pytest.mark.parametrize("sent", [b"bad", b"abcbad", b"no!bad", b"ab"])
def test_a_dialog_in_turns_ends_with_an_invalid_or_unfinished_request(forwarding: Start, sent: bytes) -> None:
    with forwarding(answer_in_pieces, Shouting) as path:
        with connect(path) as client:
            client.sendall(sent)
            if sent == b"ab":
                client.shutdown(socket.SHUT_WR)
            assert read_all(client) == {b"abcbad": b"AB", b"no!bad": b"NO"}.get(sent, b"")
        with connect(path) as other:
            other.sendall(b"xyz")
            assert other.recv(2, socket.MSG_WAITALL) == b"XY"


@pytest.mark.parametrize("request_", [b"abc", b"no!"])
def test_a_dialog_in_turns_reads_nothing_before_its_answer_is_taken(forwarding: Start, request_: bytes) -> None:
    """What waits in the engine is bounded: one request, one answer."""
    with forwarding(answer_in_pieces, Shouting) as path, connect(path) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += client.send(request_ * 100)
        client.settimeout(HANGS_S)
        client.shutdown(socket.SHUT_WR)
        assert len(read_all(client)) == sent // 3 * 2


def test_a_dialog_in_turns_ends_with_its_server(forwarding: Start) -> None:
    def die(connection: socket.socket) -> None:
        connection.recv(3, socket.MSG_WAITALL)
        connection.sendall(b"h")

    with forwarding(die, Shouting) as path, connect(path) as client:
        client.sendall(b"abc")
        assert read_all(client) == b""


def test_a_client_that_is_gone_makes_room_while_its_server_is_silent(forwarding: Start) -> None:
    def silent(connection: socket.socket) -> None:
        while connection.recv(3):
            pass

    def served(path: str) -> bool:
        with contextlib.suppress(OSError), connect(path) as client:
            client.sendall(b"no!")
            return client.recv(2) == b"NO"
        return False

    with forwarding(silent, Shouting) as path:
        with contextlib.ExitStack() as stack:
            for _ in range(MAX_CONNECTIONS):
                stack.enter_context(connect(path)).sendall(b"abc")
            eventually(lambda: not served(path), "all places taken")
        eventually(lambda: served(path), "a place")


class Failing(Stream):
    def from_client(self, data: bytes) -> tuple[bytes, bytes]:
        raise RuntimeError("a fault of ours")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_has_failed(tmp_path: Path) -> None:
    path = str(tmp_path / "path")
    server = Server(str(tmp_path / "server"), echo)
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.callback(server.stop)
        stack.enter_context(forwarded(path, str(tmp_path / "server"), Failing))
        with contextlib.suppress(OSError), connect(path) as client:
            client.sendall(b"x")
            assert client.recv(1) == b""
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(path)
