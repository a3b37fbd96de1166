"""What a build is made from, read and checked: build arguments, platform, Dockerfile, .dockerignore.

Reads the source's folder and the environment it is given. Called by ``engine.build``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from imagewright.context.fetch import FetchedContext
from imagewright.contract import BuildRequest
from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.dockerfile.model import Dockerfile
from imagewright.dockerfile.parser import parse
from imagewright.engine.contexts import plan_contexts
from imagewright.errors import DockerfileError, ImagewrightError, Reason, SourceError, UsageError
from imagewright.fs.decompress import inflate, sniff
from imagewright.fs.rootfs import Rootfs
from imagewright.fs.unpack import UnpackOptions, unpack_layer
from imagewright.oci.platform import Platform, host_platform
from imagewright.plan import PlanOptions
from imagewright.streams import Readable

_MAX_DOCKERFILE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Inputs:
    """``context`` is the folder that COPY sees, ``ignore`` what it doesn't see of it."""

    context: Rootfs
    ignore: IgnorePatterns
    dockerfile: Dockerfile

    @property
    def lines(self) -> tuple[str, ...]:
        """The Dockerfile's, as its locations count them: not every character that ends a line for Python does there."""
        return self.dockerfile.lines


def plan_options(request: BuildRequest, environment: Mapping[str, str]) -> PlanOptions:
    """The request's part of the plan.

    Raises:
        UsageError: for a bad platform, or a build argument whose variable isn't set.
    """
    build_platform = host_platform()
    platform = Platform.parse(request.platform) if request.platform else build_platform
    return PlanOptions(
        request.target,
        _build_args(request, environment),
        platform,
        build_platform,
        dict(request.labels),
        plan_contexts(request.build_contexts),
        platform_asked=bool(request.platform),
    )


def read_inputs(request: BuildRequest, fetched: FetchedContext, download: Callable[[str, int], bytes]) -> Inputs:
    """Find and parse the Dockerfile and its .dockerignore. ``download`` gives what is at an address, up to a size.

    Raises:
        SourceError: a context folder that isn't there; what ``download`` raises.
        DockerfileError: reasons ``DockerfileNotFound`` and ``DockerfileInvalid``.
    """
    source = Rootfs(fetched.path)
    folder = "/".join(part for part in request.context_dir.split("/") if part not in ("", "."))
    try:
        with source.directory(os.fsencode(folder)) as fd:
            real = os.readlink(f"/proc/self/fd/{fd}")
    except OSError as error:
        raise SourceError(
            f"the source has no folder {request.context_dir!r}",
            reason=Reason.FILE_NOT_FOUND,
            hint="contextDir (--context-sub-path) is relative to the source's root.",
        ) from error
    context = Rootfs(real)
    ignore_names = [".dockerignore"]
    if fetched.dockerfile is not None:
        name, data = "Dockerfile", fetched.dockerfile
    elif request.dockerfile.startswith(("http://", "https://")):  # kaniko takes one so
        name, data = "Dockerfile", download(request.dockerfile, _MAX_DOCKERFILE_BYTES)
    else:
        name, data = _dockerfile(request.dockerfile, context)
        ignore_names.insert(0, f"{request.dockerfile}.dockerignore")
    return Inputs(context, read_ignore(context, ignore_names), parse(data, name))


def unpack_archive(stream: Readable, folder: str) -> None:
    """Unpack a context that came as an archive; owners don't matter, since COPY sets them."""
    found, peeked = sniff(stream)
    options = UnpackOptions(whiteouts=False, ownership=(os.geteuid(), os.getegid()))
    inflated = inflate(peeked, found)
    unpack_layer(Rootfs(folder), inflated, options)
    while inflated.read(1 << 20):
        pass  # what is compressed ends with its checksum: an archive that was cut there would pass for whole


def _dockerfile(path: str, context: Rootfs) -> tuple[str, bytes]:
    """In the context; an absolute path, or one that only the working folder has, is taken as it is (kaniko)."""
    if not os.path.isabs(path):
        try:
            return path, _read(context, path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise _unreadable(path, error) from error
    if not os.path.isfile(path):
        raise DockerfileError(
            f"there is no Dockerfile at {path}" + ("" if os.path.isabs(path) else " in the build context"),
            reason=Reason.DOCKERFILE_NOT_FOUND,
            hint=_found(context),
        )
    folder, _, name = os.path.abspath(path).rpartition("/")
    try:
        return path, _read(Rootfs(folder or "/"), name)
    except OSError as error:
        raise _unreadable(path, error) from error


def _read(root: Rootfs, path: str) -> bytes:
    try:
        return root.read_file(os.fsencode(path), _MAX_DOCKERFILE_BYTES)
    except ImagewrightError as error:
        reason = Reason.DOCKERFILE_INVALID if error.reason is Reason.PATH_NOT_ALLOWED else error.reason
        raise DockerfileError(f"{path} can't be read: {error.message}", reason=reason) from error


def _unreadable(path: str, error: OSError) -> DockerfileError:
    return DockerfileError(
        f"{path} can't be read: {error.strerror}", reason=Reason.DOCKERFILE_NOT_FOUND, hint="Check its mode and owner."
    )


def _found(context: Rootfs) -> str:
    """A hint that names what looks like a Dockerfile there."""
    with context.directory(b"") as fd:
        names = sorted(n for n in os.listdir(fd) if "dockerfile" in n.lower() or "containerfile" in n.lower())
    advice = "Name it with --dockerfile (ImageBuild: dockerfile), relative to the context."
    return f"{advice} There is: {', '.join(names[:5])}." if names else advice


def read_ignore(context: Rootfs, names: list[str]) -> IgnorePatterns:
    """The patterns of the first of the files that is there; its own patterns replace the other's."""
    for name in names:
        try:
            data = _read(context, name)
        except OSError:
            continue
        return IgnorePatterns.parse(data.decode("utf-8", "replace"), name)
    return IgnorePatterns.parse("", ".dockerignore")


def _build_args(request: BuildRequest, environment: Mapping[str, str]) -> dict[str, str]:
    args: dict[str, str] = {}
    for arg in request.build_args:
        if arg.value is not None:
            args[arg.name] = arg.value
        elif arg.from_env in environment:
            args[arg.name] = environment[arg.from_env]
        elif arg.from_env != arg.name:
            # The operator put it there. `--build-arg NAME` of an unset variable is no argument, as with docker build.
            raise UsageError(
                f"the build argument {arg.name} has no value: {arg.from_env} is not set",
                hint="Set the variable, or give the argument a value.",
            )
    return args
