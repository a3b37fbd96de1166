"""What an image has on those paths of its root file system where the container has something mounted.

Reads the mount table; reads and writes a directory of its own, in which those entries of the image are that can't be on the
disk. A path is masked where the disk has something that isn't the image's: at a mount, and at the directories that lead to a
mount, as long as the image has no directory there, but a link, a file, or nothing. So a COPY onto a ConfigMap's file is in
the image, and the ConfigMap's file is what it was.

Where the image has a link to a directory and a mount lies below the directory that the disk has in its place (``/var/run`` and a
ServiceAccount's token), the directories that lead to the mount are moved to where the link points: there it would have been
mounted, had the container been started from this image.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from imagewright.descent import remove_tree
from imagewright.fs.paths import is_at_or_below
from imagewright.fs.rootfs.attributes import read_xattrs
from imagewright.fs.rootfs.mounts import MountPoint, mounts_below, move_mounts, return_mount

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_Key = tuple[int, int, int]  # mode, owner and group of a directory


@dataclass(frozen=True, slots=True)
class MaskedChanges:
    """What a command did on masked paths.

    ``moved``: where a directory with a mount in it was given another name, the image's entries went with it, to these paths.
    ``lost``: what it wrote into a directory of the disk that is none in the image.
    """

    moved: tuple[bytes, ...] = ()
    lost: tuple[bytes, ...] = ()


class MaskedEntries:
    """Of one root file system. All paths are relative to its root, without links.

    ``mounts`` are the paths that are the container's own; ``masks`` those at which this, and not the disk, has what is
    the image's: itself and all ``below``, which are the beginnings of such paths.
    """

    def __init__(self, root: str, directory: str, excluded: Iterable[str] = (), kept: Iterable[str] = ()) -> None:
        """``directory`` is this one's own, empty. ``excluded``: below these nothing is anybody's. ``kept`` are treated as mounts.

        Raises:
            OSError
        """
        self._root = os.path.realpath(os.fsencode(root))
        self._directory = os.path.realpath(os.fsencode(directory))
        self._excluded = frozenset(os.fsencode(path.strip("/")) for path in excluded)
        self._kept = frozenset(os.fsencode(path.strip("/")) for path in kept) - {b""}
        self._points: dict[int, MountPoint] = {}
        self._directories: set[bytes] = set()  # those on the way to a mount that are the image's
        self._parents: dict[bytes, int] = {}  # open directories of the masked, by path
        self._before: dict[bytes, _Key | None] = {}  # the disk's directories at masks, before a command
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
        """The mount that ``path`` is, or lies below."""
        return next((mount for mount in self.mounts if is_at_or_below(path, mount)), None)

    def writable(self) -> tuple[bytes, ...]:
        """The mounts that aren't read-only, sorted."""
        fixed = {point.path for point in self._points.values() if point.read_only}
        return tuple(sorted(self.mounts - fixed - self._kept))

    def can_release(self, path: bytes) -> bool:
        """Whether nothing really is mounted at ``path`` or below."""
        return not any(is_at_or_below(point.path, path) for point in self._points.values())

    def release(self, path: bytes) -> None:
        """Keep what is at ``path`` and below no longer."""
        self._kept = frozenset(each for each in self._kept if not is_at_or_below(each, path))
        self._read_table()

    # --- the image's entries

    @property
    def directory(self) -> bytes:
        """Where they are: each at its own path below this."""
        return self._directory

    def parent_of(self, path: bytes) -> int:
        """The open directory that has, or is to have, the image's entry at the mask ``path``; stays open."""
        parent = path.rpartition(b"/")[0]
        fd = self._parents.get(parent)
        if fd is None:
            place = os.path.join(self._directory, parent)
            os.makedirs(place, mode=0o700, exist_ok=True)
            fd = self._parents[parent] = os.open(place, _DIRECTORY)
        return fd

    def has(self, path: bytes) -> bool:
        """Whether the image has something at a mask."""
        return os.path.lexists(os.path.join(self._directory, path))

    def hides(self, path: bytes) -> bool:
        """Whether the image has more than an empty directory at the mount ``path``."""
        if path not in self.masks or not self.has(path):
            return False
        place = os.path.join(self._directory, path)
        return os.path.islink(place) or not os.path.isdir(place) or bool(os.listdir(place))

    def names(self, directory: bytes) -> list[bytes]:
        """Names of the image's entries in ``directory`` that are here."""
        prefix = directory + b"/" if directory else b""
        found = (path[len(prefix) :] for path in self.masks if path.startswith(prefix) and self.has(path))
        return [name for name in found if b"/" not in name]

    def seen_from(self, directory: bytes) -> MaskedEntriesView:
        """The same, of the part that is below a directory of the image."""
        return MaskedEntriesView(self, directory)

    # --- directories that lead to mounts

    def adopt(self, path: bytes) -> None:
        """Let the disk's directory at a mask become the image's, as if it was made now, for root alone.

        Raises:
            FileExistsError: the image has something else there.
        """
        if self.has(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(path))
        for name in self._listed(path):  # a command may have left something where the image had a link or a file
            if not self._leads(path + b"/" + name):
                remove_tree(os.fsdecode(os.path.join(self._root, path, name)))
        self._reset(path, 0o700)
        self._directories.add(path)
        self._mask()

    def drop(self, path: bytes) -> None:
        """The image no longer has a directory where the disk keeps one, since it leads to a mount."""
        self._directories = {directory for directory in self._directories if not is_at_or_below(directory, path)}
        self._forget(path)
        self._reset(path, 0o755)
        self._mask()

    def relocate_mounts(self, path: bytes, target: bytes) -> bool:
        """Have what is mounted below the mask ``path`` moved to ``target``, where a link at ``path`` will lead.

        False, and all is as it was, where that isn't possible.
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
        """Take all that is on the disk, but mounts, for the image's, so that whoever removes the image removes it."""
        self._forget(b"")
        self._directories = {mount[:end] for mount in self.mounts for end in _ends(mount)[:-1]}
        self._mask()

    def reset(self) -> None:
        """The image has nothing any more. What was moved comes back to where it was mounted."""
        self._directories.clear()
        # The shallow ones first: a directory with a mount in it can only become one that isn't there.
        for number, path in sorted(self._at_first.items(), key=lambda item: item[1].count(b"/")):
            point = self._points.get(number)
            if point is not None and point.path != path:
                with contextlib.suppress(OSError):  # where it is now it is left alone as well
                    return_mount(self._root, point.path, path)
                self._read_table()
        self._mask()

    # --- commands

    def before_command(self) -> None:
        """Remember the directories at masks: a command may do something with them."""
        self._before = {mask: self._key(mask) for mask in self.masks if self.leads_to_mount(mask)}

    def after_command(self) -> MaskedChanges:
        """Look where the mounts are now, and take for the image's the directories on the way to them that a command filled."""
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
        """Adopt the directories down to the innermost that a command changed; what it wrote where the image has a link or file."""
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
        """Bring the image's entries at a mount to where a command has moved the mount; their paths now."""
        if not self.has(source):
            return []
        self._close(source)
        self.parent_of(target)
        place = os.path.join(self._directory, target)
        os.rename(os.path.join(self._directory, source), place)
        found, waiting = [target], [place]
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found.append(entry.path[len(self._directory) + 1 :])
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        return found

    # --- within

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
        """The directories above ``path`` that the image has on the disk."""
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
        """Nothing of what an earlier image gave the disk's directory stays."""
        fd = os.open(os.path.join(self._root, path), _DIRECTORY)
        try:
            for name in read_xattrs(fd):
                os.removexattr(fd, name)
            os.fchown(fd, os.geteuid(), os.getegid())
            os.fchmod(fd, mode)
        finally:
            os.close(fd)

    def _forget(self, path: bytes) -> None:
        self._close(path)
        place = os.path.join(self._directory, path)
        if path:
            if os.path.lexists(place):
                remove_tree(os.fsdecode(place))
            return
        for name in os.listdir(place):
            remove_tree(os.fsdecode(os.path.join(place, name)))

    def _close(self, path: bytes) -> None:
        for parent in [each for each in self._parents if not path or is_at_or_below(each, path)]:
            os.close(self._parents.pop(parent))


class MaskedEntriesView:
    """A masked as it is seen from a directory of the root, in which all paths begin."""

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
    """Where the components of a path end, the last with the path itself."""
    return [index for index, letter in enumerate(path) if letter == 0x2F] + [len(path)]
