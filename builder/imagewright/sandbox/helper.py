"""A process with one thread that starts the commands: unshare(CLONE_NEWUSER) fails in one that has more.

Forked by ``sandbox.choose`` before the engine starts its first thread, spoken to over a socket pair. It is forked before
the engine reads any credential; what the environment held stays in its memory, which therefore isn't dumpable.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from imagewright.contract import SandboxKind
from imagewright.errors import Reason, SandboxError
from imagewright.sandbox import direct, linux, namespace
from imagewright.sandbox.descendants import kill_descendants
from imagewright.sandbox.ids import Ids
from imagewright.sandbox.model import RunCommand
from imagewright.sandbox.process import describe, exit_code

_LENGTH = struct.Struct("!I")
_KILLED = "It was most likely killed for want of memory: raise the container's memory limit."
# What an image or a Dockerfile may be wrong about: a place where nothing can be mounted.
_REASONS = dict.fromkeys(
    (errno.ELOOP, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EROFS), Reason.PATH_NOT_ALLOWED
) | {errno.ENOSPC: Reason.DISK_FULL}
_HINTS = {errno.EROFS: "Make the file or folder in the source, or let the mount that is around it be written: rw."}


class Helper:
    """The engine's side."""

    def __init__(self, work_dir: str, others: Sequence[Helper] = ()) -> None:
        """``others`` were started before: their sockets are not for this one."""
        self._socket: socket.socket
        self._socket, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            for helper in (self, *others):
                helper._socket.close()
            _serve(theirs, work_dir)
        theirs.close()
        self._state = threading.Lock()
        self._running = False
        self._closed = False

    def run(self, kind: SandboxKind, command: RunCommand, output: Callable[[bytes], None]) -> int:
        """Have a command run in a rung.

        Whatever ``output`` raises ends the command and this helper.

        Raises:
            SandboxError: when it could not be started; the message names the system call. When ``close`` was called.
        """
        with self._state:
            if self._closed:
                raise SandboxError("the process that runs commands was ended")
            self._running = True
        try:
            return self._run(kind, command, output)
        except SandboxError:
            raise
        except BaseException:
            self.close()  # its answer would be taken for that to the next command
            raise
        finally:
            with self._state:
                self._running = False
                if self._closed:
                    self._socket.close()

    def _run(self, kind: SandboxKind, command: RunCommand, output: Callable[[bytes], None]) -> int:
        read, write = os.pipe()
        try:
            body = command.encode()
            header = json.dumps({"kind": kind.value, "length": len(body)}).encode()
            socket.send_fds(self._socket, [_LENGTH.pack(len(header))], [write])
            self._socket.sendall(header + body)
        except OSError as error:
            os.close(read)
            raise SandboxError(f"the process that runs commands is gone: {error.strerror}", hint=_KILLED) from error
        finally:
            os.close(write)
        with os.fdopen(read, "rb", buffering=0) as pipe:
            while data := pipe.read(65536):
                output(data)
        answer = json.loads(_receive(self._socket, _LENGTH.unpack(_receive(self._socket, _LENGTH.size))[0]))
        if "error" in answer:
            raise SandboxError(
                answer["error"], reason=_REASONS.get(answer["errno"]), hint=_HINTS.get(answer["errno"], "")
            )
        return int(answer["code"])

    def close(self) -> None:
        """End the process, and with it whatever command still runs. Any thread may call it, at any time."""
        with self._state:
            if self._closed:
                return
            self._closed = True
            if self._running:
                # Its number must not be another file's while somebody reads from it.
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            else:
                self._socket.close()
        with contextlib.suppress(OSError):
            proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
            try:
                kill_descendants(proc, self._pid)
            finally:
                os.close(proc)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        try:
            piece = connection.recv(count - len(data))
        except ConnectionError:
            piece = b""
        if not piece:
            raise SandboxError("the process that runs commands ended unexpectedly", hint=_KILLED)
        data += piece
    return data


# --- the helper's side


def _serve(connection: socket.socket, work_dir: str) -> NoReturn:
    try:
        linux.set_dumpable(False)
        os.setpgid(0, 0)
        linux.die_with_parent()
        linux.become_subreaper()
        os.environ.clear()
        # Ctrl-C is the engine's to handle; it ends this process.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while True:
            prefix, fds, _, _ = socket.recv_fds(connection, _LENGTH.size, 1)
            if len(prefix) < _LENGTH.size:
                break
            header = json.loads(_receive(connection, _LENGTH.unpack(prefix)[0]))
            command = RunCommand.decode(_receive(connection, header["length"]))
            answer = _answer(SandboxKind(header["kind"]), command, fds[0], work_dir)
            data = json.dumps(answer).encode()
            connection.sendall(_LENGTH.pack(len(data)) + data)
    except (OSError, SandboxError):
        pass
    finally:
        os._exit(0)


def _answer(kind: SandboxKind, command: RunCommand, output: int, work_dir: str) -> dict[str, object]:
    try:
        return {"code": _run(kind, command, output, work_dir)}
    except OSError as error:
        return {"error": describe(error), "errno": error.errno}
    finally:
        os.close(output)


def _run(kind: SandboxKind, command: RunCommand, output: int, work_dir: str) -> int:
    """Run in a child whose descriptors 0 to 2 are the command's."""
    scratch = tempfile.mkdtemp(prefix="run-", dir=work_dir)
    errors, report = os.pipe()
    unshared, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        _child(kind, command, (output, report, scratch), (unshared[1], mapped[0]))
    for fd in (report, unshared[1], mapped[0]):
        os.close(fd)
    try:
        if os.read(unshared[0], 1):
            _map_ids(child)
            os.write(mapped[1], b"+")
        with os.fdopen(errors, "rb", closefd=False) as pipe:
            message = pipe.read().decode(errors="replace")
        status = os.waitpid(child, 0)[1]
    finally:
        for fd in (errors, unshared[0], mapped[1]):
            os.close(fd)
        with contextlib.suppress(RecursionError):  # the workspace's end removes it
            shutil.rmtree(scratch, ignore_errors=True)
    if message:
        number, _, text = message.partition(" ")
        raise OSError(int(number), text)
    return exit_code(status)


def _child(
    kind: SandboxKind, command: RunCommand, channels: tuple[int, int, str], mapping: tuple[int, int]
) -> NoReturn:
    output, report, scratch = channels
    code = 125
    try:
        linux.die_with_parent()
        linux.become_subreaper()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(null)
        os.close(output)
        if kind is SandboxKind.NAMESPACE:
            code = namespace.run(command, scratch, lambda: _have_ids_mapped(*mapping))
        else:
            os.close(mapping[0])
            if kind is SandboxKind.ROOT:
                code = direct.run_in_root(command, scratch)
            else:
                code = direct.run_in_chroot(command, scratch)
    except OSError as error:
        os.write(report, f"{error.errno or 0} {describe(error)}".encode(errors="replace"))
    except RecursionError:
        os.write(report, f"{errno.ENAMETOOLONG} the command left folders that are too deep to be removed".encode())
    finally:
        os._exit(code)


def _have_ids_mapped(unshared: int, mapped: int) -> None:
    """Ask the helper for the map of the user namespace that this process just made, and wait for it."""
    linux.set_dumpable(True)  # /proc/PID/uid_map of one that isn't belongs to the machine's root
    os.write(unshared, b"+")
    os.close(unshared)
    if not os.read(mapped, 1):
        raise OSError(1, "the user namespace's ids can't be mapped")
    os.close(mapped)


def _map_ids(child: int) -> None:
    ids = Ids.read()
    if not ids.groups_allowed:
        with contextlib.suppress(OSError), open(f"/proc/{child}/setgroups", "w", encoding="ascii") as file:
            file.write("deny")
    for name, there in (("uid_map", ids.users), ("gid_map", ids.groups)):
        with open(f"/proc/{child}/{name}", "w", encoding="ascii") as file:
            file.write(there.identity())
