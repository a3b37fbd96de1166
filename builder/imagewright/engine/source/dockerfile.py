"""Finds and reads the Dockerfile: in the context, elsewhere on this machine, or from a pipe.

Reads files and descriptors. A symbolic link is followed only inside the file's own folder, or inside the context if the
file is in it: an error could show the content of whatever it leads to. Where there is no Dockerfile, folders are listed
to suggest the files that may have been meant: a bounded number of entries, since a context may be a home folder.
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
from typing import BinaryIO, NoReturn

from imagewright.errors import DockerfileError, ImagewrightError, Reason
from imagewright.fs.rootfs.root import Rootfs
from imagewright.records import dataclass
from imagewright.streams import STANDARD_INPUT_NAME, own_descriptor, stream_name

MAX_DOCKERFILE_BYTES = 16 * 1024 * 1024
_STDIN_HINT = "Attach standard input to the container: kubectl run --stdin (stdin: true), or docker run --interactive."
_PIPE_HINT = "Check the command that writes to it."


@dataclass(frozen=True, slots=True)
class RootedFile:
    """A file below a root. ``name`` is how messages name it."""

    root: Rootfs
    path: str
    name: str

    def read(self) -> bytes:
        """
        Raises:
            OSError: as open(2).
            DockerfileError: not a regular file, or too large.
        """
        try:
            return self.root.read_file(os.fsencode(self.path), MAX_DOCKERFILE_BYTES)
        except ImagewrightError as error:
            reason = Reason.DOCKERFILE_INVALID if error.reason is Reason.PATH_NOT_ALLOWED else error.reason
            raise DockerfileError(f'cannot read "{self.name}": {error.why}', reason=reason) from error


@dataclass(frozen=True, slots=True)
class FoundDockerfile:
    """``ignore_file`` is where its own .dockerignore would be, None for a Dockerfile without a folder."""

    name: str
    content: bytes
    ignore_file: RootedFile | None = None


def find_dockerfile(path: str, context: Rootfs) -> FoundDockerfile:
    """Read what --dockerfile names: a path in the context, else on this machine (as kaniko does), or a descriptor.

    Raises:
        DockerfileError: reasons ``DockerfileNotFound`` and ``DockerfileInvalid``.
    """
    descriptor = own_descriptor(path)
    if descriptor is not None:
        return _from_descriptor(descriptor, stream_name(descriptor, path))
    inside = RootedFile(context, path, path)
    if not os.path.isabs(path) and _exists(inside):
        return _from_file(inside, context)
    outside = _on_this_machine(path, context)
    if outside.root is not context and _is_pipe(path):
        return _from_pipe(path)
    if not _exists(outside):
        raise DockerfileError(
            f'cannot find Dockerfile "{path}"' + ("" if os.path.isabs(path) else " in the build context"),
            reason=Reason.DOCKERFILE_NOT_FOUND,
            hint=suggestions(outside.path if outside.root is context else path, context),
        )
    return _from_file(outside, context)


def _on_this_machine(path: str, context: Rootfs) -> RootedFile:
    """A path relative to the working directory. GitLab and others use one for a file of the context."""
    folder, name = os.path.split(os.path.abspath(path))
    real = os.path.realpath(folder)
    if real == context.path or real.startswith(context.path.rstrip("/") + "/"):
        return RootedFile(context, os.path.join(real[len(context.path) :], name).lstrip("/"), path)
    return RootedFile(Rootfs(folder), name, path)


def _exists(file: RootedFile) -> bool:
    """Whether there is an entry of that name, even a dangling symbolic link."""
    try:
        file.root.lstat(os.fsencode(file.path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        _refuse(file.name, error)
    return True


def _from_file(file: RootedFile, context: Rootfs) -> FoundDockerfile:
    try:
        content = file.read()
    except FileNotFoundError:
        root = "the build context" if file.root is context else f'"{file.root.path}"'
        raise DockerfileError(
            f'cannot read "{file.name}": the symbolic link has no target in {root}',
            reason=Reason.DOCKERFILE_NOT_FOUND,
            hint="Name the target with --dockerfile (ImageBuild: spec.dockerfile), or replace the link with a copy of it.",
        ) from None
    except OSError as error:
        _refuse(file.name, error)
    except DockerfileError as error:
        if error.reason is Reason.DOCKERFILE_INVALID:
            error.hint = (
                suggestions(file.path, context)
                if file.root is context
                else "Name a file with --dockerfile (ImageBuild: spec.dockerfile)."
            )
        raise
    ignore_file = RootedFile(file.root, f"{file.path}.dockerignore", f"{file.name}.dockerignore")
    return FoundDockerfile(file.name, content, ignore_file)


def _is_pipe(path: str) -> bool:
    with suppress(OSError):
        mode = os.stat(path).st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
    return False


def _from_descriptor(descriptor: int, name: str) -> FoundDockerfile:
    try:
        if not os.get_inheritable(descriptor):  # opened by this process, not passed to it
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        with open(descriptor, "rb", closefd=False) as stream:
            return _read_stream(name, stream)
    except OSError as error:
        _refuse(name, error, _STDIN_HINT if descriptor == 0 else _PIPE_HINT)


def _from_pipe(path: str) -> FoundDockerfile:
    try:
        with open(path, "rb") as stream:
            return _read_stream(path, stream)
    except OSError as error:
        _refuse(path, error)


def _read_stream(name: str, stream: BinaryIO) -> FoundDockerfile:
    content = stream.read(MAX_DOCKERFILE_BYTES + 1)
    if len(content) > MAX_DOCKERFILE_BYTES:
        raise DockerfileError(
            f"cannot read the Dockerfile from {name}: larger than {MAX_DOCKERFILE_BYTES} bytes",
            reason=Reason.LIMIT_EXCEEDED,
            hint="Check that it is a Dockerfile.",
        )
    if not content:
        raise DockerfileError(
            f"cannot read the Dockerfile from {name}: it is empty",
            hint=_STDIN_HINT if name == STANDARD_INPUT_NAME else _PIPE_HINT,
        )
    return FoundDockerfile(name, content)


def _refuse(name: str, error: OSError, hint: str = "Check its mode and owner.") -> NoReturn:
    raise DockerfileError(
        f'cannot read "{name}": {error.strerror}', reason=Reason.DOCKERFILE_NOT_FOUND, hint=hint
    ) from error


_MAX_ENTRIES = 5000
_MAX_DEPTH = 5
_MAX_SHOWN = 5
_SIMILAR = 0.6
_NAMES = ("dockerfile", "containerfile")
_ADVICE = "Name it with --dockerfile (ImageBuild: spec.dockerfile), relative to the context."


def suggestions(path: str, context: Rootfs) -> str:
    """A hint for a ``path`` without a Dockerfile, in the context or absolute: the files that may have been meant."""
    path = os.path.normpath(path)
    listed = list(_listing(context))
    candidates = [each for each in listed if _is_candidate(each, path)]
    if os.path.isabs(path):
        candidates += [each for each in _siblings(path) if _is_candidate(each, path)]
    if not candidates:
        top = [name for name in listed if "/" not in name.rstrip("/")]
        return f"{_ADVICE} The context {f'contains {_some(top)}' if top else 'is empty'}."
    candidates.sort(key=lambda each: (*(-rank for rank in _similarity(each, path)), each))
    first, *others = candidates
    if _similarity(first, path)[0] < _SIMILAR:
        return f"{_ADVICE} Found: {_some(candidates)}."
    return f"Did you mean {first}?" + (f" Also found: {_some(others)}." if others else "")


def _is_candidate(candidate: str, path: str) -> bool:
    """Whether a file is named like a Dockerfile, or like the requested one."""
    name = os.path.basename(candidate).lower()
    if not name or not candidate.isprintable() or name.endswith(".dockerignore"):
        return False
    return name == os.path.basename(path).lower() or any(part in name for part in _NAMES)


def _similarity(candidate: str, path: str) -> tuple[float, float]:
    """The best similarity of paths or names, and that of the paths as written; each from 0 to 1."""
    whole = _ratio(candidate, path)
    if candidate.startswith(f"{path}/"):  # the folder was named instead of the file
        return 1.0, whole
    return max(whole, _ratio(os.path.basename(candidate), os.path.basename(path))), whole


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _some(names: list[str]) -> str:
    """The first names, and the number of the others."""
    shown = [name for name in names if name.isprintable()][:_MAX_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _siblings(path: str) -> Iterator[str]:
    """The files in the folder of an absolute path."""
    folder = os.path.dirname(path)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in itertools.islice(entries, _MAX_ENTRIES):
            if entry.is_file():
                yield entry.path


def _listing(context: Rootfs) -> Iterator[str]:
    """The context's entries, top level first; folders end with a slash."""
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
