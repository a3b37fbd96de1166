"""RUN --mount=type=cache: folders that persist from RUN to RUN and, with ``--cache-dir``, from build to build.

Creates folders and lock files below one folder of the engine's own. Safe with any number of concurrent builds on a file
system with flock(2), and with builds that are killed: a lock ends with its process, and a cache is complete or absent.

A cache's name is a hash: an id can contain anything. As in BuildKit, the initial content is part of the name: that of
the seed, or the mode and owner of an empty cache.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from imagewright.errors import FileSystemError, ImagewrightError, Reason
from imagewright.fs.copy.contents import tree_contents
from imagewright.fs.rootfs.errors import DISK_FULL
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.rootfs.tree import copy_tree, remove
from imagewright.plan.steps import CacheMount, CacheSharing
from imagewright.records import dataclass

_POLL_S = 0.1
_UNFINISHED = ".new"
_FULL_HINT = "Free some space there, or name another place with --cache-dir (ImageBuild: spec.cache.volume)."
_LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """A cache mount, and the initial content of a new cache for it, None for an empty one."""

    mount: CacheMount
    seed: Rootfs | None


class CacheMounts:
    """The caches below ``folder``, which is created when first needed. May be used from several threads."""

    def __init__(
        self, folder: str, log: Callable[[str], None], stopped: threading.Event, *, exclusive: bool = False
    ) -> None:
        """``log`` reports that a cache is waited for; ``stopped`` ends the wait.

        ``exclusive``: the sandbox cannot mount a folder twice at the same time, so shared caches are locked, too.
        """
        self._folder = folder
        self._exclusive = exclusive
        self._log = log
        self._stopped = stopped

    def rewording(self, reword: Callable[[str], str]) -> CacheMounts:
        """The same caches; ``reword`` changes each message."""
        return CacheMounts(self._folder, lambda text: self._log(reword(text)), self._stopped, exclusive=self._exclusive)

    @contextmanager
    def hold(self, requests: Sequence[CacheRequest]) -> Iterator[list[str]]:
        """The folders of all caches of one RUN, in order, locked according to ``sharing`` until the RUN has ended.

        They are locked in the order of their names: two RUNs with the same caches cannot deadlock.

        Raises:
            ImagewrightError: the folder cannot be written or locked; reason ``Cancelled``, the build was stopped.
        """
        names = [self._name(request) for request in requests]
        first = dict(zip(reversed(names), reversed(requests), strict=True))
        locking = (CacheSharing.LOCKED, CacheSharing.SHARED) if self._exclusive else (CacheSharing.LOCKED,)
        locked = {name for name, request in zip(names, requests, strict=True) if request.mount.sharing in locking}
        try:
            with ExitStack() as stack:
                found = {}
                for name in sorted(first):
                    request = first[name]
                    sharing = CacheSharing.LOCKED if name in locked else request.mount.sharing
                    found[name] = self._lock_one(stack, name, request.mount.id, sharing)
                    try:
                        self._make(found[name], request)
                    except FileSystemError as error:
                        error.hint = _FULL_HINT if error.reason is Reason.DISK_FULL else error.hint
                        raise
                yield [found[name] for name in names]
        except OSError as error:
            if error.filename is None or not str(error.filename).startswith(self._folder):
                raise
            raise ImagewrightError(
                f'cannot use the folder for cache mounts: "{error.filename}": {error.strerror}',
                reason=Reason.DISK_FULL if error.errno in DISK_FULL else Reason.OUTPUT_FAILED,
                hint=_hint(error),
            ) from error

    def _name(self, request: CacheRequest) -> str:
        mount, seed = request.mount, request.seed
        initial = [mount.mode, mount.uid, mount.gid, tree_contents(seed) if seed is not None else None]
        return hashlib.sha256(json.dumps([mount.id, initial]).encode()).hexdigest()

    def _lock_one(self, stack: ExitStack, name: str, cache_id: str, sharing: CacheSharing) -> str:
        """Lock a cache of this name, a private one by taking the first that is free."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        number = 0
        logged = False
        while True:
            path = os.path.join(self._folder, f"{name}-{number}")
            fd = os.open(f"{path}.lock", _LOCK_FILE, 0o600)
            operation = fcntl.LOCK_SH if sharing is CacheSharing.SHARED else fcntl.LOCK_EX
            try:
                fcntl.flock(fd, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
            except OSError as error:
                os.close(fd)
                raise OSError(error.errno, error.strerror, f"{path}.lock") from None
            else:
                stack.callback(os.close, fd)
                return path
            if sharing is CacheSharing.PRIVATE:
                number += 1
                continue
            if not logged:
                self._log(f'waiting for cache "{cache_id}", locked by another RUN or build')
                logged = True
            if self._stopped.wait(_POLL_S):
                raise ImagewrightError("the build was stopped", reason=Reason.CANCELLED)

    def _make(self, path: str, request: CacheRequest) -> None:
        """Create a missing cache under a temporary name, and rename it when it is complete."""
        mount = request.mount
        if os.path.isdir(path):
            return
        with _locked(f"{path}.making"):
            if os.path.isdir(path):
                return
            for name in os.listdir(self._folder):
                if name.startswith(f"{os.path.basename(path)}{_UNFINISHED}"):
                    _remove(os.path.join(self._folder, name))  # left by a build that was killed
            new = f"{path}{_UNFINISHED}{uuid.uuid4().hex}"
            os.mkdir(new, 0o700)
            if request.seed is not None:
                copy_tree(request.seed, Rootfs(new))
            os.chown(new, -1 if mount.uid is None else mount.uid, -1 if mount.gid is None else mount.gid)
            if mount.mode is not None:
                os.chmod(new, mount.mode)
            os.rename(new, path)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Waits for the lock: it is held for moments, or while a seed is copied that all need."""
    fd = os.open(path, _LOCK_FILE, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _hint(error: OSError) -> str:
    if error.errno in DISK_FULL:
        return _FULL_HINT
    if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
        return "Name a folder whose file system supports locks with --cache-dir (ImageBuild: spec.cache.volume)."
    return "Name a writable folder with --cache-dir (ImageBuild: spec.cache.volume)."


def _remove(path: str) -> None:
    remove(Rootfs(path))
    os.rmdir(path)
