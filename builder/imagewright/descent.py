"""Walks directories nested to any depth without recursion on the call stack and without a descriptor for each level.

Opens and removes files. A walk is a recursive generator in which ``yield walk(…)`` stands for a call, driven by
``run``; a ``Descent`` holds the current path, of which only the innermost directories are open.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from imagewright.records import dataclass

T = TypeVar("T")
# Yields walks, is sent their results, and returns a T.
Walk = Generator[Any, Any, T]

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT = 32  # directories that are open at once, the innermost ones
_NOTHING: frozenset[bytes] = frozenset()


def run(walk: Walk[T]) -> T:
    """The result of a walk; exceptions propagate through the calling walks."""
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
            del error  # breaks the reference cycle between it and this frame, which keeps descriptors open
    result: T = value
    return result


@dataclass(slots=True)
class _Level:
    """A directory above: open, or its identity, to recognize it. ``pinned``: the entered one has a different ``..``."""

    fd: int
    pinned: bool
    identity: tuple[int, int] = (0, 0)  # device and inode


class Descent:
    """A descent from an open directory. ``fd`` is the current one; its number may differ after a return to a directory.

    The caller keeps ownership of the first directory. Links are never followed.
    """

    def __init__(self, directory: int) -> None:
        self.fd = directory
        self._begin = directory
        self._above: list[_Level] = []  # outermost first

    def enter(self, name: bytes, parent: int | None = None) -> int:
        """Enter a directory in the current one, or in ``parent`` if given; returns its descriptor.

        Raises:
            OSError: also if it is a link.
        """
        fd = os.open(name, _OPEN, dir_fd=self.fd if parent is None else parent)
        self._above.append(_Level(self.fd, pinned=parent not in (None, self.fd)))
        self.fd = fd
        if len(self._above) > _KEPT:
            self._shut(self._above[-1 - _KEPT])
        return fd

    def leave(self) -> None:
        """Return to the directory from which the current one was entered.

        Raises:
            OSError: ESTALE if the current one has been moved out of it.
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
        """Close everything, at any depth; may be called again."""
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
    """Remove ``name`` from an open directory, and everything below it, without following links.

    ``kept`` are paths relative to ``directory`` that stay, with the directories above them. With ``ignore_errors``,
    what cannot be removed stays, too. Returns whether everything was removed.

    Raises:
        OSError: FileNotFoundError among others; never with ``ignore_errors``.
    """
    try:
        with Descent(directory) as descent:
            return run(_removing(descent, name, kept, ignore_errors=ignore_errors))
    except OSError:
        if not ignore_errors:
            raise
        return False


def remove_tree(path: str, *, ignore_errors: bool = False) -> None:
    """``remove`` by path.

    Raises:
        OSError: never with ``ignore_errors``.
    """
    above, name = os.path.split(os.path.abspath(path))
    with contextlib.suppress(*[OSError] if ignore_errors else []):
        directory = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove(directory, os.fsencode(name), ignore_errors=ignore_errors)
        finally:
            os.close(directory)


def replace_directory(path: str, make: Callable[[str], None]) -> None:
    """Replace a directory by the one that ``make`` creates at the path that it is given, next to it.

    If ``make`` fails, the old one stays alone. Killed in between, it leaves the old one, the new one, or both under
    other names.
    """
    new, old = f"{path}.changed", f"{path}.old"
    for left in (new, old):
        remove_tree(left, ignore_errors=True)
    try:
        make(new)
    except BaseException:
        remove_tree(new, ignore_errors=True)
        raise
    os.rename(path, old)
    os.rename(new, path)
    remove_tree(old)


@contextlib.contextmanager
def temporary_directory(prefix: str, parent: str | None = None) -> Iterator[str]:
    """A new directory in ``parent``, by default the system's, that is removed at the end.

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
    """Remove an entry unless it is a directory; returns whether it was removed.

    Raises:
        OSError
    """
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return False
    except PermissionError:  # unlink(2) of a directory on some file systems
        if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise
        return False
    return True
