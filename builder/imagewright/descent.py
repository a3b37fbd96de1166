"""Directories inside each other to any depth: what walks them needs neither the call stack nor a descriptor for each level.

Opens and removes files. A walk is written as a recursive generator, in which ``yield walk(…)`` stands for a call, and
``run`` drives it; a ``Descent`` holds the way down, of which only the last directories are open.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
# Yields calls of the same kind, is sent what they return, and returns a T.
Walk = Generator[Any, Any, T]

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT = 32  # directories that are open at once, the last ones of the way
_NOTHING: frozenset[bytes] = frozenset()


def run(walk: Walk[T]) -> T:
    """What a walk returns; what it raises goes through the walks above it, as through callers."""
    stack: list[Walk[Any]] = [walk]
    value: Any = None
    error: BaseException | None = None
    while stack:
        try:
            called = stack[-1].send(value) if error is None else stack[-1].throw(error)
        except StopIteration as end:
            stack.pop()
            value, error = end.value, None
        except BaseException as failure:  # noqa: BLE001 -- carried to the walk above, and out of the last one
            stack.pop()
            value, error = None, failure
        else:
            stack.append(called)
            value = error = None
    if error is not None:
        try:
            raise error
        finally:
            del error  # or it would hold this frame, which holds it, and all that the walks had open
    result: T = value
    return result


@dataclass(slots=True)
class _Level:
    """A directory on the way: open, or else what it is, to know it again. ``pinned``: what was entered has another ``..``."""

    fd: int
    pinned: bool
    identity: tuple[int, int] = (0, 0)  # device and inode


class Descent:
    """A way down from an open directory. ``fd`` is where it is now; another number may stand for a directory after coming back.

    The directory that it begins in stays the caller's. No link is followed.
    """

    def __init__(self, directory: int) -> None:
        self.fd = directory
        self._begin = directory
        self._above: list[_Level] = []  # outermost first

    def enter(self, name: bytes, home: int | None = None) -> int:
        """Go down into a directory of the present one; its descriptor. ``home`` is where it is instead, if it isn't in that.

        Raises:
            OSError: also where it is a link.
        """
        fd = os.open(name, _OPEN, dir_fd=self.fd if home is None else home)
        self._above.append(_Level(self.fd, pinned=home not in (None, self.fd)))
        self.fd = fd
        if len(self._above) > _KEPT:
            self._shut(self._above[-1 - _KEPT])
        return fd

    def leave(self) -> None:
        """Go up to the directory that this one was entered from.

        Raises:
            OSError: ESTALE where the directory has been moved out of it meanwhile.
        """
        level = self._above.pop()
        above = level.fd
        if above < 0:
            above = os.open("..", _OPEN, dir_fd=self.fd)
            if _identity(above) != level.identity:
                os.close(above)
                self._above.append(level)
                raise OSError(errno.ESTALE, "directory was moved while it was being read")
        self._close(self.fd)
        self.fd = above

    def close(self) -> None:
        """Close what is open, wherever it is; harmless when it has come back."""
        for level in self._above:
            self._close(level.fd)
        self._above.clear()
        self._close(self.fd)
        self.fd = self._begin

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _shut(self, level: _Level) -> None:
        if level.fd < 0 or level.pinned:
            return
        level.identity = _identity(level.fd)
        self._close(level.fd)
        level.fd = -1

    def _close(self, fd: int) -> None:
        if fd not in (-1, self._begin):
            os.close(fd)


def _identity(directory: int) -> tuple[int, int]:
    info = os.fstat(directory)
    return info.st_dev, info.st_ino


def remove(directory: int, name: bytes, kept: frozenset[bytes] = _NOTHING, *, ignore_errors: bool = False) -> bool:
    """Remove ``name`` from an open directory, and all that is below it, without following any link.

    ``kept`` are paths relative to ``directory`` that stay, with the directories that lead to them. ``ignore_errors``: what can't
    be removed stays, too. Returns whether it is gone.

    Raises:
        OSError: FileNotFoundError among others; with ``ignore_errors`` none.
    """
    try:
        with Descent(directory) as descent:
            return run(_removing(descent, name, kept, ignore_errors=ignore_errors))
    except OSError:
        if not ignore_errors:
            raise
        return False


def remove_tree(path: str, *, ignore_errors: bool = False) -> None:
    """``remove`` what is at ``path``.

    Raises:
        OSError: with ``ignore_errors`` none.
    """
    above, name = os.path.split(os.path.abspath(path))
    with contextlib.suppress(*[OSError] if ignore_errors else []):
        directory = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove(directory, os.fsencode(name), ignore_errors=ignore_errors)
        finally:
            os.close(directory)


@contextlib.contextmanager
def temporary_directory(prefix: str, parent: str | None = None) -> Iterator[str]:
    """A new directory in ``parent``, by default the system's place for them, for as long as it is needed.

    Raises:
        OSError
    """
    path = tempfile.mkdtemp(prefix=prefix, dir=parent)
    try:
        yield path
    finally:
        remove_tree(path, ignore_errors=True)


def _removing(descent: Descent, name: bytes, kept: frozenset[bytes], *, ignore_errors: bool) -> Walk[bool]:
    if name in kept:
        return False
    try:
        if try_unlink(descent.fd, name):
            return True
        descent.enter(name)
    except OSError:
        if not ignore_errors:
            raise
        return False
    prefix = name + b"/"
    below = frozenset(path[len(prefix) :] for path in kept if path.startswith(prefix)) if kept else kept
    gone = True
    for child in os.listdir(descent.fd):
        gone &= yield _removing(descent, os.fsencode(child), below, ignore_errors=ignore_errors)
    descent.leave()
    if gone:
        try:
            os.rmdir(name, dir_fd=descent.fd)
        except OSError:
            if not ignore_errors:
                raise
            return False
    return gone


def try_unlink(directory: int, name: bytes) -> bool:
    """Remove what is no directory; whether it was none.

    Raises:
        OSError
    """
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return False
    except PermissionError:  # what unlink(2) says of a directory on some file systems
        if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise
        return False
    return True
