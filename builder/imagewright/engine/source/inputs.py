"""The inputs of a build, read and checked: build arguments, platform, Dockerfile, .dockerignore, SOURCE_DATE_EPOCH.

Reads the source's folder and the given environment. SOURCE_DATE_EPOCH is a number, ``context`` (the time of the commit
that is built) or the name of a stage with one remote ADD, whose time is looked up (Dockerfile 1.24).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from imagewright.context.job import FetchedContext
from imagewright.contract.request import BuildRequest, Timestamps
from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.dockerfile.model import Dockerfile
from imagewright.dockerfile.parser import parse
from imagewright.engine.source.contexts import plan_contexts
from imagewright.engine.source.dockerfile import MAX_DOCKERFILE_BYTES, FoundDockerfile, RootedFile, find_dockerfile
from imagewright.engine.source.remotes import Remotes
from imagewright.errors import DockerfileError, ImagewrightError, Reason, SourceError, UsageError
from imagewright.fs.layer.unpack import UnpackOptions, unpack_layer
from imagewright.fs.rootfs.inodes import ON_DISK, Inodes
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.decompress import inflate, sniff
from imagewright.fs.tar.reader import read_rest
from imagewright.oci.platform import Platform, host_platform
from imagewright.plan.arguments import EPOCH
from imagewright.plan.epoch import EpochSource
from imagewright.plan.options import PlanOptions
from imagewright.records import dataclass
from imagewright.streams import Readable


@dataclass(frozen=True, slots=True)
class Inputs:
    """``context`` is the folder that COPY reads, ``ignore`` the patterns of its .dockerignore."""

    context: Rootfs
    ignore: IgnorePatterns
    dockerfile: Dockerfile

    @property
    def lines(self) -> tuple[str, ...]:
        """The Dockerfile's, numbered as its locations are: Python would split lines at more characters."""
        return self.dockerfile.lines


def plan_options(request: BuildRequest, environment: Mapping[str, str]) -> PlanOptions:
    """The planner's options in a request.

    Raises:
        UsageError: an invalid platform, or a build argument whose variable isn't set.
    """
    build_platform = host_platform()
    platform = Platform.parse(request.plan.platform) if request.plan.platform else build_platform
    return PlanOptions(
        request.plan.target,
        _build_args(request, environment),
        platform,
        build_platform,
        dict(request.plan.labels),
        plan_contexts(request.context.named),
        platform_asked=bool(request.plan.platform),
    )


def read_inputs(
    request: BuildRequest,
    fetched: FetchedContext,
    download: Callable[[str, int], bytes],
    inodes: Inodes = ON_DISK,
) -> Inputs:
    """Find and parse the Dockerfile and its .dockerignore. ``download`` reads a URL, up to a size in bytes.

    Raises:
        SourceError: the context folder does not exist; as ``download``.
        DockerfileError: reasons ``DockerfileNotFound`` and ``DockerfileInvalid``.
    """
    source = Rootfs(fetched.path, inodes=inodes)
    folder = "/".join(part for part in request.context.directory.split("/") if part not in ("", "."))
    try:
        with source.directory(os.fsencode(folder)) as fd:
            real = os.readlink(f"/proc/self/fd/{fd}")
    except OSError as error:
        raise SourceError(
            f'cannot find context folder "{request.context.directory}" in the source',
            reason=Reason.FILE_NOT_FOUND,
            hint="Write --context-sub-path (ImageBuild: spec.contextDir) relative to the root of the source.",
        ) from error
    context = Rootfs(real, inodes=inodes)
    if fetched.dockerfile is not None:
        found = FoundDockerfile("Dockerfile", fetched.dockerfile)
    elif request.plan.dockerfile.startswith(("http://", "https://")):  # as kaniko does
        found = FoundDockerfile("Dockerfile", download(request.plan.dockerfile, MAX_DOCKERFILE_BYTES))
    else:
        found = find_dockerfile(request.plan.dockerfile, context)
    own = [found.ignore_file] if found.ignore_file is not None else []
    return Inputs(context, read_ignore(*own, ignore_file_of(context)), parse(found.content, found.name))


def unpack_archive(stream: Readable, folder: str, inodes: Inodes = ON_DISK) -> None:
    """Unpack the archive of a context; owners don't matter, since COPY sets them."""
    found, peeked = sniff(stream)
    options = UnpackOptions(whiteouts=False, ownership=inodes.default_owner())
    inflated = inflate(peeked, found)
    unpack_layer(Rootfs(folder, inodes=inodes), inflated, options)
    read_rest(inflated, "the archive")  # the checksum at the end reveals a truncated archive


def ignore_file_of(context: Rootfs) -> RootedFile:
    """A context's own .dockerignore."""
    return RootedFile(context, ".dockerignore", ".dockerignore")


def read_ignore(*files: RootedFile) -> IgnorePatterns:
    """The patterns of the first file that exists; the others are not read.

    Raises:
        DockerfileError: it exists and cannot be read: files that it excludes would get into the image.
    """
    for file in files:
        try:
            content = file.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise DockerfileError(
                f'cannot read "{file.name}": {error.strerror}', hint="Check its mode and owner."
            ) from error
        return IgnorePatterns.parse(content.decode("utf-8", "replace"), file.name)
    return IgnorePatterns.parse("", ".dockerignore")


def _build_args(request: BuildRequest, environment: Mapping[str, str]) -> dict[str, str]:
    args: dict[str, str] = {}
    for arg in request.plan.build_args:
        if arg.value is not None:
            args[arg.name] = arg.value
        elif arg.from_env in environment:
            args[arg.name] = environment[arg.from_env]
        elif arg.from_env != arg.name:
            # Set by the operator. As in docker build, `--build-arg NAME` of an unset variable is ignored.
            raise UsageError(
                f'no value for build argument "{arg.name}": variable "{arg.from_env}" is not set',
                hint="Set the variable, or give the argument a value.",
            )
    for name, value in args.items():
        if "\0" in value:
            raise UsageError(
                f'invalid value of build argument "{name}": it contains a null byte',
                hint="Encode it, for example in base64, or give it as a secret.",
            )
    return args


_FROM_CONTEXT = "context"
_MOST_DIGITS = 20  # of seconds
# What SOURCE_DATE_EPOCH defaults to.
EPOCH_OF = {Timestamps.BUILD: "", Timestamps.SOURCE: _FROM_CONTEXT, Timestamps.ZERO: "0"}


def resolve_epoch(
    text: str, fetched: FetchedContext, source_of: Callable[[str], EpochSource | None], remotes: Remotes
) -> int | None:
    """Seconds since 1970; None without a value, or if the context has no time of its own (a folder).

    Args:
        source_of: returns what the stage of a name adds, None if there is no such stage.

    Raises:
        UsageError: neither a number nor ``context`` nor the name of a stage.
        DockerfileError, SourceError: another kind of stage, a source that cannot be fetched.
    """
    if not text:
        return None
    if text == _FROM_CONTEXT:
        return fetched.time_s
    source = None if text.isdigit() else source_of(text)
    if source is not None:
        try:
            return remotes.rewording(source.substitutions.as_written).time_of(source.remote)
        except ImagewrightError as error:
            source.substitutions.restore(error)
            raise
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS) or int(text) >= 1 << 33:
        raise UsageError(
            f'invalid {EPOCH} "{text[:100]}": neither seconds since 1970, "context", nor the name of a stage',
            hint="Use, for example, the output of git log -1 --pretty=%ct, or context for a git context.",
        )
    return int(text)
