"""Runs of the program ``imagewright``, forked from a process that has imported the engine once.

Importing it takes five times as long as a small build, and the tests make more than a thousand. As a program, this is
that process: it has one thread and opens nothing, so what it forks begins as a process of its own does. Of what a build
does to its environment, arguments or descriptors, the next one sees nothing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn

_MAX_BYTES = 1 << 20  # of one request: words and environment


class Forking:
    """Runs builds; from several threads at once, if need be."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def run(self, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run ``imagewright WORDS``, as subprocess.run does with captured output as text."""
        reading, writing = os.pipe()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors, open(reading, "rb") as outcome:
            request = json.dumps({"words": list(words), "environment": dict(environment), "folder": os.getcwd()})
            with self._sending:
                socket.send_fds(self._connection, [request.encode()], [out.fileno(), errors.fileno(), writing])
            os.close(writing)
            code = outcome.read()  # until the keeper has ended
            assert code, "the process that runs builds has ended"
            out.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(words, int(code), out.read().decode(), errors.read().decode())


@contextmanager
def forking() -> Iterator[Forking]:
    """Start the process; it ends with its connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [sys.executable, __file__, str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        try:
            yield Forking(ours)
        finally:
            ours.close()
            process.wait()


def _serve(connection: socket.socket) -> None:
    import imagewright.cli.commands.build  # noqa: F401 -- once for all

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, _MAX_BYTES, 3)
        if not request:
            return
        if os.fork() == 0:
            connection.close()
            _keep(json.loads(request), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(request: dict[str, object], out: int, errors: int, outcome: int) -> NoReturn:
    """Wait for the build, and say how it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        os.close(outcome)
        os.dup2(out, 1)
        os.dup2(errors, 2)
        os.close(out)
        os.close(errors)
        _build(request)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(outcome, str(code).encode())
    os._exit(0)


def _build(request: dict[str, object]) -> NoReturn:
    from imagewright.__main__ import main

    words, environment = request["words"], request["environment"]
    assert isinstance(words, list)
    assert isinstance(environment, dict)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["imagewright", *words]
    main()
    raise AssertionError("the program returned")


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
