"""The folder a build works in: root file systems of stages and images, blobs, the fetched source.

Creates and removes folders. The folder is never part of an image: the ``root`` sandbox excludes it from the root file
system.
"""

from __future__ import annotations

import os
import tempfile

from imagewright.descent import remove_tree
from imagewright.errors import ImagewrightError, Reason
from imagewright.fs.rootfs.errors import DISK_FULL, DISK_FULL_HINT
from imagewright.fs.rootfs.inodes import choose_inodes
from imagewright.fs.rootfs.root import Rootfs


class Workspace:
    """A new folder below ``parent`` ("": the system's temporary folder), removed by ``close``.

    ``inodes`` has the attributes of all files of images and contexts that are unpacked here.
    """

    def __init__(self, parent: str) -> None:
        self.inodes = choose_inodes()
        try:
            if parent:
                os.makedirs(parent, mode=0o700, exist_ok=True)
            self.path = tempfile.mkdtemp(prefix="imagewright-", dir=parent or None)
            try:
                os.chmod(self.path, 0o700)  # a volume with an fsGroup hands its setgid bit down, into contexts as well
                for name in ("blobs", "source", "stages", "images", "layers"):
                    os.mkdir(os.path.join(self.path, name), 0o700)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            full = error.errno in DISK_FULL
            raise ImagewrightError(
                f'cannot create a work folder in "{parent or tempfile.gettempdir()}": {error.strerror}',
                reason=Reason.DISK_FULL if full else Reason.OUTPUT_FAILED,
                hint=DISK_FULL_HINT if full else "Name a writable folder with --work-dir.",
            ) from error

    @property
    def blobs(self) -> str:
        return os.path.join(self.path, "blobs")

    @property
    def source(self) -> str:
        return os.path.join(self.path, "source")

    @property
    def layers(self) -> str:
        """For layers of base images that are being downloaded; an unpacked one becomes a blob."""
        return os.path.join(self.path, "layers")

    @property
    def masked(self) -> str:
        """For entries of an image that mounts of the container hide."""
        return self._folder("masked")

    @property
    def aside(self) -> str:
        """For contexts that are moved out of an image's way."""
        return self._folder("aside")

    @property
    def caches(self) -> str:
        """For cache mounts without a cache folder; created when first needed."""
        return os.path.join(self.path, "caches")

    @property
    def agents(self) -> str:
        """For the sockets of ssh agents; created when first needed."""
        return os.path.join(self.path, "agents")

    def stage(self, index: int) -> Rootfs:
        """The root file system of a stage; created here."""
        return self._rootfs("stages", str(index))

    def image(self, name: str) -> Rootfs:
        """The root file system of an image that a step reads."""
        return self._rootfs("images", name)

    def bind_source(self, name: str) -> Rootfs:
        """A context as bind mounts show it."""
        return self._rootfs("bind-sources", name)

    def close(self) -> None:
        """Remove everything. Files that cannot be removed are left behind: that does not fail the build."""
        remove_tree(self.path, ignore_errors=True)

    def _folder(self, name: str) -> str:
        path = os.path.join(self.path, name)
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def _rootfs(self, kind: str, name: str) -> Rootfs:
        path = os.path.join(self.path, kind, name, "rootfs")
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # `ls -ld /` in the build shows this mode; the parent folders keep other users out.
        os.makedirs(path, mode=0o755, exist_ok=True)
        os.chmod(path, 0o755)  # noqa: S103
        return Rootfs(path, inodes=self.inodes)
