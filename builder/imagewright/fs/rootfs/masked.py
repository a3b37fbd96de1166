"""Entries of an image at paths of its root file system that are masked by mounts of the container.

Reads the mount table; reads and writes a directory of its own, which holds the masked entries. A path is masked if the
disk has something there that does not belong to the image: a mount, or a directory above a mount where the image has a
link, a file or nothing instead. So a COPY to the path of a ConfigMap's file ends up in the image, and the ConfigMap's
file stays as it is.

If the image has a link to a directory where the disk has a directory above a mount (``/var/run`` and a ServiceAccount's
token), the directories above the mount are moved to the target of the link, where the mount would be if the container
had been started from this image.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable

from imagewright.descent import remove_tree
from imagewright.fs.paths import is_at_or_below
from imagewright.fs.rootfs.inodes import ON_DISK
from imagewright.fs.rootfs.mounts import MountPoint, mounts_below, move_mounts, return_mount
from imagewright.records import dataclass

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_Key = tuple[int, int, int]  # mode, owner and group of a directory


@dataclass(frozen=True, slots=True)
class MaskedChanges:
    """Effects of a command on masked paths.

    ``moved``: new paths of the image's entries that moved because a directory above a mount was renamed.
    ``lost``: what was written to a directory of the disk that is not a directory in the image.
    """

    moved: tuple[bytes, ...] = ()
    lost: tuple[bytes, ...] = ()


class MaskedEntries:
    """The masked entries of one root file system. All paths are root-relative and contain no links.

    ``mounts`` are the paths that belong to the container. ``masks`` are the topmost masked paths, ``below`` the same as
    prefixes: entries of the image at or below them are kept here instead of on the disk.
    """

    def __init__(self, root: str, directory: str, excluded: Iterable[str] = (), kept: Iterable[str] = ()) -> None:
        """``directory`` is empty, used by nothing else. Mounts below ``excluded`` don't count; ``kept`` do.

        Raises:
            OSError
        """
        self._root = os.path.realpath(os.fsencode(root))
        self._directory = os.path.realpath(os.fsencode(directory))
        self._excluded = frozenset(os.fsencode(path.strip("/")) for path in excluded)
        self._kept = frozenset(os.fsencode(path.strip("/")) for path in kept) - {b""}
        self._points: dict[int, MountPoint] = {}
        self._directories: set[bytes] = set()  # directories above mounts that belong to the image
        self._parents: dict[bytes, int] = {}  # open parents of masked entries, by path
        self._before: dict[bytes, _Key | None] = {}  # attributes of the disk's directories at masks before a command
        self.mounts: frozenset[bytes] = frozenset()
        self.masks: frozenset[bytes] = frozenset()
        self.below: tuple[bytes, ...] = ()
        self._read_table()
        self._at_first = {number: point.path for number, point in self._points.items()}

    def __del__(self) -> None:
        for fd in getattr(self, "_parents", {}).values():
            os.close(fd)

    def leads_to_mount(self, path: bytes) -> bool:
        """Whether something is mounted below ``path``."""
        return any(mount.startswith(path + b"/") for mount in self.mounts)

    def mount_of(self, path: bytes) -> bytes | None:
        """The mount at or above ``path``."""
        return next((mount for mount in self.mounts if is_at_or_below(path, mount)), None)

    def writable(self) -> tuple[bytes, ...]:
        """The mounts that are not read-only, sorted."""
        fixed = {point.path for point in self._points.values() if point.read_only}
        return tuple(sorted(self.mounts - fixed - self._kept))

    def can_release(self, path: bytes) -> bool:
        """Whether ``path`` is only kept: nothing is actually mounted at or below it."""
        return not any(is_at_or_below(point.path, path) for point in self._points.values())

    def release(self, path: bytes) -> None:
        """Stop treating ``path`` and what is below it as a mount."""
        self._kept = frozenset(each for each in self._kept if not is_at_or_below(each, path))
        self._read_table()

    # --- the image's entries

    @property
    def directory(self) -> bytes:
        """The directory of the masked entries, each at its own path below it."""
        return self._directory

    def parent_of(self, path: bytes) -> int:
        """The open parent of the image's entry at the mask ``path``, created if needed; it stays open."""
        parent = path.rpartition(b"/")[0]
        fd = self._parents.get(parent)
        if fd is None:
            stored = os.path.join(self._directory, parent)
            os.makedirs(stored, mode=0o700, exist_ok=True)
            fd = self._parents[parent] = os.open(stored, _DIRECTORY)
        return fd

    def has(self, path: bytes) -> bool:
        """Whether the image has an entry at a mask."""
        return os.path.lexists(os.path.join(self._directory, path))

    def hides(self, path: bytes) -> bool:
        """Whether the mount ``path`` hides an entry of the image other than an empty directory."""
        if path not in self.masks or not self.has(path):
            return False
        stored = os.path.join(self._directory, path)
        return os.path.islink(stored) or not os.path.isdir(stored) or bool(os.listdir(stored))

    def names(self, directory: bytes) -> list[bytes]:
        """Names of the masked entries in ``directory``."""
        prefix = directory + b"/" if directory else b""
        found = (path[len(prefix) :] for path in self.masks if path.startswith(prefix) and self.has(path))
        return [name for name in found if b"/" not in name]

    def seen_from(self, directory: bytes) -> MaskedEntriesView:
        """The masked entries below ``directory``, with paths relative to it."""
        return MaskedEntriesView(self, directory)

    # --- directories above mounts

    def adopt(self, path: bytes) -> None:
        """Make the disk's directory at a mask part of the image, as if newly created with mode 0700.

        Raises:
            FileExistsError: the image has something else there.
        """
        if self.has(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(path))
        for name in self._listed(path):  # leftovers of a command, from when the image had a link or a file here
            if not self._leads(path + b"/" + name):
                remove_tree(os.fsdecode(os.path.join(self._root, path, name)))
        self._reset(path, 0o700)
        self._directories.add(path)
        self._mask()

    def drop(self, path: bytes) -> None:
        """Remove a directory from the image that must stay on the disk, since a mount is below it."""
        self._directories = {directory for directory in self._directories if not is_at_or_below(directory, path)}
        self._forget(path)
        self._reset(path, 0o755)
        self._mask()

    def relocate_mounts(self, path: bytes, target: bytes) -> bool:
        """Move the mounts below the mask ``path`` to ``target``, which a link at ``path`` will point to.

        Returns False, with nothing changed, if that is not possible.
        """
        on_the_way = [target[:end] for end in _ends(target)]
        if any(each in self.mounts or (each in self.masks and self.has(each)) for each in on_the_way):
            return False
        below = [mount for mount in self.mounts if mount.startswith(path + b"/")]
        if self._kept.intersection(below) or self.has(path):
            return False
        theirs = {
            directory
            for mount in below
            for directory in self._directories_to((target + mount[len(path) :]).lstrip(b"/"))
        }
        moved = move_mounts(self._root, path, target, below)
        if moved:
            self._directories |= theirs
        self._read_table()
        return moved

    def adopt_all(self) -> None:
        """Make everything on the disk except mounts part of the image, so that removing the image removes it."""
        self._forget(b"")
        self._directories = {mount[:end] for mount in self.mounts for end in _ends(mount)[:-1]}
        self._mask()

    def reset(self) -> None:
        """To be called when the image has been removed: moves the mounts back to where they were at first."""
        self._directories.clear()
        # Shallow ones first: a directory above a mount can only be renamed to a path that does not exist.
        for number, path in sorted(self._at_first.items(), key=lambda item: item[1].count(b"/")):
            point = self._points.get(number)
            if point is not None and point.path != path:
                with contextlib.suppress(OSError):  # it is protected at its present path as well
                    return_mount(self._root, point.path, path)
                self._read_table()
        self._mask()

    # --- commands

    def before_command(self) -> None:
        """Record the attributes of the directories at masks, which a command may change."""
        self._before = {mask: self._key(mask) for mask in self.masks if self.leads_to_mount(mask)}

    def after_command(self) -> MaskedChanges:
        """Find out where the mounts are now, and adopt directories above them that the command wrote to."""
        before = {number: point.path for number, point in self._points.items()}
        masks = self.masks
        self._read_table()
        moved = []
        for number, point in self._points.items():
            if (was := before.get(number)) in (None, point.path) or point.path not in self.mounts:
                continue
            self._directories.update(point.path[:end] for end in _ends(point.path)[:-1])
            if was is not None and was in masks:
                moved += self._carry(was, point.path)
        self._mask()
        lost: list[bytes] = []
        for mask in sorted(self.masks):
            if self.leads_to_mount(mask):
                lost += self._take_in(mask)
        self._mask()
        return MaskedChanges(tuple(sorted(moved)), tuple(lost))

    def _take_in(self, mask: bytes) -> list[bytes]:
        """Adopt the directories down to the innermost that a command changed.

        Returns the paths that it wrote where the image has a link or a file.
        """
        changed = self._before.get(mask) != self._key(mask)
        lost = []
        for mount in self.mounts:
            if not mount.startswith(mask + b"/"):
                continue
            way = [mount[:end] for end in _ends(mount)[:-1] if end >= len(mask)]
            for depth, directory in reversed(list(enumerate(way))):
                more = [name for name in self._listed(directory) if not self._leads(directory + b"/" + name)]
                if self.has(mask):
                    lost += [directory + b"/" + name for name in more]
                elif more or (changed and depth == 0):
                    self._directories.update(way[: depth + 1])
                    break
        return lost

    def _carry(self, source: bytes, target: bytes) -> list[bytes]:
        """Move the image's entries at a mount along with the mount; returns their new paths."""
        if not self.has(source):
            return []
        self._close(source)
        self.parent_of(target)
        stored = os.path.join(self._directory, target)
        os.rename(os.path.join(self._directory, source), stored)
        found, waiting = [target], [stored]
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found.append(entry.path[len(self._directory) + 1 :])
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        return found

    # --- internals

    def _read_table(self) -> None:
        points = mounts_below(os.fsdecode(self._root))
        ours = [point for point in points if not any(is_at_or_below(point.path, each) for each in self._excluded)]
        self._points = {point.number: point for point in ours}
        paths = {point.path for point in ours} | {
            path for path in self._kept if not any(is_at_or_below(path, each) for each in self._excluded)
        }
        self.mounts = frozenset(path for path in paths if not any(path[:end] in paths for end in _ends(path)[:-1]))
        self._mask()

    def _mask(self) -> None:
        masks = set()
        for mount in self.mounts:
            way = (mount[:end] for end in _ends(mount))
            masks.add(next((each for each in way if each not in self._directories), mount))
        self.masks, self.below = frozenset(masks), tuple(mask + b"/" for mask in masks)

    def _directories_to(self, path: bytes) -> list[bytes]:
        """The directories above ``path`` that belong to the image and are on the disk."""
        above = [path[:end] for end in _ends(path)[:-1]]
        return [
            directory
            for directory in above
            if not any(is_at_or_below(directory, mask) for mask in self.masks)
            and os.path.isdir(os.path.join(self._root, directory))
        ]

    def _leads(self, path: bytes) -> bool:
        return path in self.mounts or self.leads_to_mount(path)

    def _listed(self, directory: bytes) -> list[bytes]:
        try:
            return sorted(os.listdir(os.path.join(self._root, directory)))
        except OSError:
            return []

    def _key(self, path: bytes) -> _Key | None:
        try:
            info = os.stat(os.path.join(self._root, path), follow_symlinks=False)
        except OSError:
            return None
        return stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid

    def _reset(self, path: bytes, mode: int) -> None:
        """Remove all attributes that an earlier image gave to the disk's directory."""
        fd = os.open(os.path.join(self._root, path), _DIRECTORY)
        try:
            for name in ON_DISK.xattrs(fd):
                os.removexattr(fd, name)
            os.fchown(fd, os.geteuid(), os.getegid())
            os.fchmod(fd, mode)
        finally:
            os.close(fd)

    def _forget(self, path: bytes) -> None:
        self._close(path)
        stored = os.path.join(self._directory, path)
        if path:
            if os.path.lexists(stored):
                remove_tree(os.fsdecode(stored))
            return
        for name in os.listdir(stored):
            remove_tree(os.fsdecode(os.path.join(stored, name)))

    def _close(self, path: bytes) -> None:
        for parent in [each for each in self._parents if not path or is_at_or_below(each, path)]:
            os.close(self._parents.pop(parent))


class MaskedEntriesView:
    """Masked entries below one directory, with paths relative to it."""

    def __init__(self, masked: MaskedEntries, top: bytes) -> None:
        self._masked = masked
        self._top = top

    @property
    def directory(self) -> bytes:
        return os.path.join(self._masked.directory, self._top)

    @property
    def masks(self) -> frozenset[bytes]:
        top = self._top + b"/"
        return frozenset(mask[len(top) :] for mask in self._masked.masks if mask.startswith(top))

    @property
    def below(self) -> tuple[bytes, ...]:
        return tuple(mask + b"/" for mask in self.masks)

    def parent_of(self, path: bytes) -> int:
        return self._masked.parent_of(self._whole(path))

    def names(self, directory: bytes) -> list[bytes]:
        return self._masked.names(self._whole(directory))

    def leads_to_mount(self, path: bytes) -> bool:
        return self._masked.leads_to_mount(self._whole(path))

    def adopt(self, path: bytes) -> None:
        self._masked.adopt(self._whole(path))

    def drop(self, path: bytes) -> None:
        self._masked.drop(self._whole(path))

    def relocate_mounts(self, path: bytes, target: bytes) -> bool:
        return self._masked.relocate_mounts(self._whole(path), self._whole(target))

    def seen_from(self, directory: bytes) -> MaskedEntriesView:
        return MaskedEntriesView(self._masked, self._whole(directory))

    def _whole(self, path: bytes) -> bytes:
        return self._top + b"/" + path if path else self._top


def _ends(path: bytes) -> list[int]:
    """The end index of each component of a path."""
    return [index for index, letter in enumerate(path) if letter == 0x2F] + [len(path)]
