"""RUN --mount=type=cache: folders that live from RUN to RUN and, with ``--cache-dir``, from build to build.

Makes folders and lock files below one folder of the engine's own. Called by ``engine.mounts``. Safe with any number of
builds at once on one file system that has flock(2), and with builds that are killed: a lock ends with its process, and a
cache is there whole or not at all.

A cache's name is a hash, so that no id leads anywhere. As in BuildKit, what it began with is part of the name: the seed's
content, or the mode and owner of an empty one.
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

_POLL_S = 0.1
_UNFINISHED = ".new"
_FULL = "Free space there, or name a larger folder with --cache-dir."
_LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

Wanted = tuple[CacheMount, Rootfs | None]  # a mount, and the folder that a new cache of it begins with


class CacheMounts:
    """The caches below ``folder``, which is made when a RUN first wants one. May be used from several threads."""

    def __init__(
        self, folder: str, say: Callable[[str], None], stopped: threading.Event, *, alone: bool = False
    ) -> None:
        """``say`` tells the user that a cache is waited for; ``stopped`` ends the wait.

        ``alone``: a folder can't be in two places at once, so a shared cache is had by one RUN after the other.
        """
        self._folder = folder
        self._alone = alone
        self._say = say
        self._stopped = stopped

    def rewording(self, reword: Callable[[str], str]) -> CacheMounts:
        """The same caches; ``reword`` changes each message."""
        return CacheMounts(self._folder, lambda text: self._say(reword(text)), self._stopped, alone=self._alone)

    @contextmanager
    def hold(self, wanted: Sequence[Wanted]) -> Iterator[list[str]]:
        """The folders of all caches of one RUN, in order, locked as their ``sharing`` asks until the RUN has ended.

        All at once and in one order for everybody: two RUNs that want the same two can't wait for each other.

        Raises:
            ImagewrightError: the folder can't be written, or locked; reason ``Cancelled`` when the build was stopped.
        """
        names = [self._name(mount, seed) for mount, seed in wanted]
        first = {name: (name, *each) for name, each in zip(reversed(names), reversed(wanted), strict=True)}
        alone = (CacheSharing.LOCKED, CacheSharing.SHARED) if self._alone else (CacheSharing.LOCKED,)
        exclusive = {name for name, (mount, _) in zip(names, wanted, strict=True) if mount.sharing in alone}
        try:
            with ExitStack() as stack:
                found = {}
                for name in sorted(first):
                    _, mount, seed = first[name]
                    sharing = CacheSharing.LOCKED if name in exclusive else mount.sharing
                    found[name] = self._take(stack, name, mount, sharing)
                    try:
                        self._make(found[name], mount, seed)
                    except FileSystemError as error:
                        error.hint = _FULL if error.reason is Reason.DISK_FULL else error.hint
                        raise
                yield [found[name] for name in names]
        except OSError as error:
            if error.filename is None or not str(error.filename).startswith(self._folder):
                raise
            raise ImagewrightError(
                f"the folder for cache mounts can't be used: {error.filename}: {error.strerror}",
                reason=Reason.DISK_FULL if error.errno in DISK_FULL else Reason.OUTPUT_FAILED,
                hint=_hint(error),
            ) from error

    def _name(self, mount: CacheMount, seed: Rootfs | None) -> str:
        begins = [mount.mode, mount.uid, mount.gid, tree_contents(seed) if seed is not None else None]
        return hashlib.sha256(json.dumps([mount.id, begins]).encode()).hexdigest()

    def _take(self, stack: ExitStack, name: str, mount: CacheMount, sharing: CacheSharing) -> str:
        """Lock a cache of this name; a private one is the first that nobody has."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        number = 0
        said = False
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
            if not said:
                self._say(f"waiting for the cache {mount.id}, which another RUN or build has locked")
                said = True
            if self._stopped.wait(_POLL_S):
                raise ImagewrightError("the build was stopped", reason=Reason.CANCELLED)

    def _make(self, path: str, mount: CacheMount, seed: Rootfs | None) -> None:
        """Make a cache that isn't there. It gets its name when it is whole, and only one of several makers wins."""
        if os.path.isdir(path):
            return
        with _locked(f"{path}.making"):
            if os.path.isdir(path):
                return
            for left in [
                name for name in os.listdir(self._folder) if name.startswith(f"{os.path.basename(path)}{_UNFINISHED}")
            ]:
                _remove(os.path.join(self._folder, left))  # of a build that was killed
            new = f"{path}{_UNFINISHED}{uuid.uuid4().hex}"
            os.mkdir(new, 0o700)
            if seed is not None:
                copy_tree(seed, Rootfs(new))
            os.chown(new, -1 if mount.uid is None else mount.uid, -1 if mount.gid is None else mount.gid)
            if mount.mode is not None:
                os.chmod(new, mount.mode)
            os.rename(new, path)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Held for moments only, or for a copy that everybody needs: so this waits."""
    fd = os.open(path, _LOCK_FILE, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _hint(error: OSError) -> str:
    if error.errno in DISK_FULL:
        return _FULL
    if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
        return "The file system of the folder that --cache-dir names must have locks."
    return "--cache-dir names a folder that the build can write."


def _remove(path: str) -> None:
    remove(Rootfs(path))
    os.rmdir(path)
