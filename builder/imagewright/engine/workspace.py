"""The folder a build works in: root file systems of stages and images, blobs, the fetched source.

Makes and removes folders. Called by ``engine.build``. Its content is the engine's own and never an image's: in the
``root`` sandbox the folder is excluded from the root file system.
"""

from __future__ import annotations

import os
import tempfile

from imagewright.descent import remove_tree
from imagewright.errors import ImagewrightError, Reason
from imagewright.fs.rootfs.errors import DISK_FULL, DISK_FULL_HINT


class Workspace:
    """A fresh folder below ``parent`` (empty: the system's folder for temporary files), removed by ``close``."""

    def __init__(self, parent: str) -> None:
        try:
            if parent:
                os.makedirs(parent, mode=0o700, exist_ok=True)
            self.path = tempfile.mkdtemp(prefix="imagewright-", dir=parent or None)
            try:
                for name in ("blobs", "source", "stages", "images", "layers"):
                    os.mkdir(os.path.join(self.path, name), 0o700)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            full = error.errno in DISK_FULL
            raise ImagewrightError(
                f"can't make a work folder in {parent or tempfile.gettempdir()}: {error.strerror}",
                reason=Reason.DISK_FULL if full else Reason.OUTPUT_FAILED,
                hint=DISK_FULL_HINT if full else "Name a folder that can be written with --work-dir.",
            ) from error

    @property
    def blobs(self) -> str:
        return os.path.join(self.path, "blobs")

    @property
    def source(self) -> str:
        return os.path.join(self.path, "source")

    @property
    def layers(self) -> str:
        """For layers of base images on their way; what is unpacked becomes a blob."""
        return os.path.join(self.path, "layers")

    @property
    def shadow(self) -> str:
        """For what an image has where the container has something mounted."""
        return self._folder("shadow")

    @property
    def aside(self) -> str:
        """For contexts that an image would be in the way of."""
        return self._folder("aside")

    @property
    def caches(self) -> str:
        """For cache mounts of this build alone; made by the first."""
        return os.path.join(self.path, "caches")

    @property
    def agents(self) -> str:
        """For the sockets of ssh agents; made by the first."""
        return os.path.join(self.path, "agents")

    def stage(self, index: int) -> str:
        """The root file system of a stage; made when it is asked for."""
        return self._rootfs("stages", str(index))

    def image(self, name: str) -> str:
        """The root file system of an image that COPY --from names."""
        return self._rootfs("images", name)

    def view(self, name: str) -> str:
        """A context as bind mounts show it."""
        return self._rootfs("views", name)

    def close(self) -> None:
        """Remove everything. A file that can't be removed is left behind: the build's outcome doesn't hang on it."""
        remove_tree(self.path, ignore_errors=True)

    def _folder(self, name: str) -> str:
        path = os.path.join(self.path, name)
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def _rootfs(self, kind: str, name: str) -> str:
        path = os.path.join(self.path, kind, name, "rootfs")
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # Its mode is what `ls -ld /` shows in the build; the folders above it keep others out.
        os.makedirs(path, mode=0o755, exist_ok=True)
        os.chmod(path, 0o755)  # noqa: S103
        return path
