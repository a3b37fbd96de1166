"""The Dockerfile, wherever it lies: in the context, elsewhere on this machine, or on its way through a pipe.

Reads files and descriptors. A file is read through its folder, or through the context where it lies in that: a link leads
out of neither, since what it led to would be shown in an error. Where there is none, folders are listed (a bounded number of
entries, since a context may be a home folder) to name the files that may have been meant.
"""

from __future__ import annotations

import difflib
import errno
import itertools
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from imagewright.errors import DockerfileError, ImagewrightError, Reason
from imagewright.fs.rootfs.root import Rootfs
from imagewright.streams import STANDARD_INPUT_NAME, own_descriptor, stream_name

MAX_DOCKERFILE_BYTES = 16 * 1024 * 1024
_STDIN_HINT = "A container reads standard input only with stdin: true (kubectl run --stdin, docker run --interactive)."
_PIPE_HINT = "Check the command that writes to it."


@dataclass(frozen=True, slots=True)
class Place:
    """A file below a root; ``name`` is what people call it."""

    root: Rootfs
    path: str
    name: str

    def read(self) -> bytes:
        """
        Raises:
            OSError: as open(2).
            DockerfileError: it is no regular file, or too large.
        """
        try:
            return self.root.read_file(os.fsencode(self.path), MAX_DOCKERFILE_BYTES)
        except ImagewrightError as error:
            reason = Reason.DOCKERFILE_INVALID if error.reason is Reason.PATH_NOT_ALLOWED else error.reason
            raise DockerfileError(f"{self.name} can't be read: {error.message}", reason=reason) from error


@dataclass(frozen=True, slots=True)
class FoundDockerfile:
    """``ignore_file`` is where a .dockerignore of its own would lie, None where nothing lies beside it."""

    name: str
    content: bytes
    ignore_file: Place | None = None


def find_dockerfile(path: str, context: Rootfs) -> FoundDockerfile:
    """Read what --dockerfile names: a path in the context, else one of this machine (kaniko), or a descriptor.

    Raises:
        DockerfileError: reasons ``DockerfileNotFound`` and ``DockerfileInvalid``.
    """
    descriptor = own_descriptor(path)
    if descriptor is not None:
        return _from_descriptor(descriptor, stream_name(descriptor, path))
    inside = Place(context, path, path)
    if not os.path.isabs(path) and _is_there(inside):
        return _from_file(inside, context)
    outside = _on_this_machine(path, context)
    if outside.root is not context and _is_pipe(path):
        return _from_pipe(path)
    if not _is_there(outside):
        raise DockerfileError(
            f"there is no Dockerfile at {path}" + ("" if os.path.isabs(path) else " in the build context"),
            reason=Reason.DOCKERFILE_NOT_FOUND,
            hint=found_instead(outside.path if outside.root is context else path, context),
        )
    return _from_file(outside, context)


def _on_this_machine(path: str, context: Rootfs) -> Place:
    """Where a path leads from the working folder. GitLab and others name by such a one what lies in the context."""
    folder, name = os.path.split(os.path.abspath(path))
    real = os.path.realpath(folder)
    if real == context.path or real.startswith(context.path.rstrip("/") + "/"):
        return Place(context, os.path.join(real[len(context.path) :], name).lstrip("/"), path)
    return Place(Rootfs(folder), name, path)


def _is_there(place: Place) -> bool:
    """Whether there is anything of that name, be it a link that leads nowhere."""
    try:
        place.root.lstat(os.fsencode(place.path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        _refuse(place.name, error)
    return True


def _from_file(place: Place, context: Rootfs) -> FoundDockerfile:
    try:
        content = place.read()
    except FileNotFoundError:
        root = "the build context" if place.root is context else place.root.path
        raise DockerfileError(
            f"cannot read {place.name}: its symbolic link leads nowhere in {root}",
            reason=Reason.DOCKERFILE_NOT_FOUND,
            hint="Name the file itself with --dockerfile (ImageBuild: dockerfile), or put it in the place of the link.",
        ) from None
    except OSError as error:
        _refuse(place.name, error)
    except DockerfileError as error:
        if error.reason is Reason.DOCKERFILE_INVALID:
            error.hint = found_instead(place.path, context) if place.root is context else "Name a file."
        raise
    beside = Place(place.root, f"{place.path}.dockerignore", f"{place.name}.dockerignore")
    return FoundDockerfile(place.name, content, beside)


def _is_pipe(path: str) -> bool:
    with suppress(OSError):
        mode = os.stat(path).st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
    return False


def _from_descriptor(descriptor: int, name: str) -> FoundDockerfile:
    try:
        if not os.get_inheritable(descriptor):  # this process has opened it, and wasn't given it
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        with open(descriptor, "rb", closefd=False) as stream:
            return _read_through(name, stream)
    except OSError as error:
        _refuse(name, error, _STDIN_HINT if descriptor == 0 else _PIPE_HINT)


def _from_pipe(path: str) -> FoundDockerfile:
    try:
        with open(path, "rb") as stream:
            return _read_through(path, stream)
    except OSError as error:
        _refuse(path, error)


def _read_through(name: str, stream: BinaryIO) -> FoundDockerfile:
    content = stream.read(MAX_DOCKERFILE_BYTES + 1)
    if len(content) > MAX_DOCKERFILE_BYTES:
        raise DockerfileError(
            f"cannot read the Dockerfile from {name}: more than {MAX_DOCKERFILE_BYTES} bytes",
            reason=Reason.LIMIT_EXCEEDED,
            hint="Is it a Dockerfile that is sent?",
        )
    if not content:
        raise DockerfileError(
            f"cannot read the Dockerfile from {name}: not a single byte came",
            hint=_STDIN_HINT if name == STANDARD_INPUT_NAME else _PIPE_HINT,
        )
    return FoundDockerfile(name, content)


def _refuse(name: str, error: OSError, hint: str = "Check its mode and owner.") -> NoReturn:
    raise DockerfileError(
        f"{name} can't be read: {error.strerror}", reason=Reason.DOCKERFILE_NOT_FOUND, hint=hint
    ) from error


_MAX_ENTRIES = 5000
_MAX_DEPTH = 5
_MAX_SHOWN = 5
_ALIKE = 0.6
_NAMES = ("dockerfile", "containerfile")
_ADVICE = "Name it with --dockerfile (ImageBuild: dockerfile), relative to the context."


def found_instead(path: str, context: Rootfs) -> str:
    """A hint for a ``path`` at which there is no Dockerfile: in the context, or an absolute one elsewhere."""
    path = os.path.normpath(path)
    listed = list(_listing(context))
    candidates = [each for each in listed if _may_be_meant(each, path)]
    if os.path.isabs(path):
        candidates += [each for each in _beside(path) if _may_be_meant(each, path)]
    if not candidates:
        top = [name for name in listed if "/" not in name.rstrip("/")]
        return f"{_ADVICE} None was found in the context, which {f'holds {_some(top)}' if top else 'is empty'}."
    candidates.sort(key=lambda each: (*(-rank for rank in _likeness(each, path)), each))
    first, *others = candidates
    if _likeness(first, path)[0] < _ALIKE:
        return f"{_ADVICE} Found: {_some(candidates)}."
    return f"Did you mean {first}?" + (f" Also found: {_some(others)}." if others else "")


def _may_be_meant(candidate: str, path: str) -> bool:
    """Whether a file is called as a Dockerfile is, or as the one that is wanted."""
    name = os.path.basename(candidate).lower()
    if not name or not candidate.isprintable() or name.endswith(".dockerignore"):
        return False
    return name == os.path.basename(path).lower() or any(part in name for part in _NAMES)


def _likeness(candidate: str, path: str) -> tuple[float, float]:
    """How much alike they are at best, and how much as they are written; each from 0 to 1."""
    whole = _ratio(candidate, path)
    if candidate.startswith(f"{path}/"):  # the folder was named in place of the file
        return 1.0, whole
    return max(whole, _ratio(os.path.basename(candidate), os.path.basename(path))), whole


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _some(names: list[str]) -> str:
    """The first of the names, and how many more there are."""
    shown = [name for name in names if name.isprintable()][:_MAX_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _beside(path: str) -> Iterator[str]:
    """The files in the folder of an absolute path."""
    folder = os.path.dirname(path)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in itertools.islice(entries, _MAX_ENTRIES):
            if entry.is_file():
                yield entry.path


def _listing(context: Rootfs) -> Iterator[str]:
    """What is in the context, folders with a slash at their end, the topmost first."""
    left, waiting = _MAX_ENTRIES, deque([("", 0)])
    while waiting:
        folder, depth = waiting.popleft()
        with suppress(OSError), context.directory(os.fsencode(folder)) as fd, os.scandir(fd) as entries:
            for entry in sorted(itertools.islice(entries, left), key=lambda each: each.name):
                left -= 1
                is_folder = entry.is_dir(follow_symlinks=False)
                yield f"{folder}{entry.name}{'/' if is_folder else ''}"
                if is_folder and depth < _MAX_DEPTH and entry.name != ".git":
                    waiting.append((f"{folder}{entry.name}/", depth + 1))
