"""Files of the engine's container in a build that replaces its ``/``: what may still be read of them, and loaded.

An image can have files of its own where nothing is mounted, and a RUN can rewrite the engine's. So certificates are
copied to memory, and modules loaded only from files that are as they were.

Reads the mount table and certificates; stats modules.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from imagewright.errors import Reason, SandboxError
from imagewright.fs.paths import is_at_or_below
from imagewright.fs.rootfs.mounts import mounts_below

_CERTIFICATES = "SSL_CERT_FILE"
_CERTIFICATE_DIRECTORY = "SSL_CERT_DIR"
_CLOCK_REALTIME_COARSE = 5  # linux/time.h; what inodes get their times from
_PATH_FINDER = "PathFinder"


class Mounted:
    """Whether a file or directory belongs to one of the mounts of this container, as they are now."""

    def __init__(self) -> None:
        self._devices = {b"/" + point.path: os.stat(b"/" + point.path).st_dev for point in mounts_below("/")}

    def __call__(self, path: str) -> bool:
        """False also where the mount has been moved away, and for what a reader could wait for (a FIFO)."""
        try:
            found = os.stat(path)
        except OSError:
            return False
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            return False
        real = os.fsencode(os.path.realpath(path))
        return any(device == found.st_dev and is_at_or_below(real, at) for at, device in self._devices.items())


def hold_certificates() -> None:
    """Copy the certificates that OpenSSL trusts to memory, and have it read them there.

    SSL_CERT_DIR is read before (``cli.trust``), and by OpenSSL at every connection.
    """
    path = os.environ.get(_CERTIFICATES, "")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return  # the first connection says so
    fd = os.memfd_create("certificates")  # open until the engine ends; no other process can open it
    with open(fd, "wb", closefd=False) as copy:
        copy.write(data)
    os.environ[_CERTIFICATES] = os.environ[_CERTIFICATE_DIRECTORY] = f"/proc/self/fd/{fd}"  # which has no files in it


def hold_modules() -> None:
    """Load Python modules only from files that exist now and do not change."""
    sys.dont_write_bytecode = True
    names = [getattr(finder, "__name__", "") for finder in sys.meta_path]
    now_ns = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
    sys.meta_path.insert(names.index(_PATH_FINDER), _Unchanged(now_ns))


class _Unchanged:
    """Finds modules as ``PathFinder`` does. ``since_ns`` is when the files were the engine's own."""

    def __init__(self, since_ns: int) -> None:
        self._since_ns = since_ns

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The specification of a module, None if there is none.

        Raises:
            SandboxError: reason ``NotIsolated``: one of its files was changed.
        """
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None and spec.has_location:
            for file in filter(None, (spec.origin, spec.cached)):
                self._check(name, file)
        return spec

    def _check(self, name: str, file: str) -> None:
        """A file that is moved keeps its time, but the directory that it is moved with does not."""
        path = os.path.realpath(file)
        while path != "/":
            try:
                changed_ns = os.lstat(path).st_ctime_ns
            except FileNotFoundError:
                changed_ns = 0  # a compiled module that is not there
            if changed_ns > self._since_ns:
                raise SandboxError(
                    f'cannot load the engine\'s module "{name}": the build changed "{path}"',
                    reason=Reason.NOT_ISOLATED,
                    hint="Let RUN leave /imagewright as it is, or use the namespace sandbox.",
                )
            path = os.path.dirname(path)
