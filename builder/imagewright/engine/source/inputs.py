"""What a build is made from, read and checked: build arguments, platform, Dockerfile, .dockerignore, SOURCE_DATE_EPOCH.

Reads the source's folder and the environment it is given. SOURCE_DATE_EPOCH is a number, ``context`` (the time of the
commit that is built) or the name of a stage with one remote ADD, whose time is asked for (Dockerfile 1.24).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from imagewright.context.job import FetchedContext
from imagewright.contract.request import BuildRequest, Timestamps
from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.dockerfile.model import Dockerfile
from imagewright.dockerfile.parser import parse
from imagewright.engine.source.contexts import plan_contexts
from imagewright.engine.source.dockerfile import MAX_DOCKERFILE_BYTES, FoundDockerfile, Place, find_dockerfile
from imagewright.engine.source.remotes import Remotes
from imagewright.errors import DockerfileError, ImagewrightError, Reason, SourceError, UsageError
from imagewright.fs.layer.unpack import UnpackOptions, unpack_layer
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.decompress import inflate, sniff
from imagewright.oci.platform import Platform, host_platform
from imagewright.plan.arguments import EPOCH
from imagewright.plan.epoch import EpochSource
from imagewright.plan.options import PlanOptions
from imagewright.streams import Readable


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


def read_inputs(request: BuildRequest, fetched: FetchedContext, download: Callable[[str, int], bytes]) -> Inputs:
    """Find and parse the Dockerfile and its .dockerignore. ``download`` gives what is at an address, up to a size.

    Raises:
        SourceError: a context folder that isn't there; what ``download`` raises.
        DockerfileError: reasons ``DockerfileNotFound`` and ``DockerfileInvalid``.
    """
    source = Rootfs(fetched.path)
    folder = "/".join(part for part in request.context.directory.split("/") if part not in ("", "."))
    try:
        with source.directory(os.fsencode(folder)) as fd:
            real = os.readlink(f"/proc/self/fd/{fd}")
    except OSError as error:
        raise SourceError(
            f"the source has no folder {request.context.directory!r}",
            reason=Reason.FILE_NOT_FOUND,
            hint="contextDir (--context-sub-path) is relative to the source's root.",
        ) from error
    context = Rootfs(real)
    if fetched.dockerfile is not None:
        found = FoundDockerfile("Dockerfile", fetched.dockerfile)
    elif request.plan.dockerfile.startswith(("http://", "https://")):  # kaniko takes one so
        found = FoundDockerfile("Dockerfile", download(request.plan.dockerfile, MAX_DOCKERFILE_BYTES))
    else:
        found = find_dockerfile(request.plan.dockerfile, context)
    own = [found.ignore_file] if found.ignore_file is not None else []
    return Inputs(context, read_ignore(*own, ignore_file_of(context)), parse(found.content, found.name))


def unpack_archive(stream: Readable, folder: str) -> None:
    """Unpack a context that came as an archive; owners don't matter, since COPY sets them."""
    found, peeked = sniff(stream)
    options = UnpackOptions(whiteouts=False, ownership=(os.geteuid(), os.getegid()))
    inflated = inflate(peeked, found)
    unpack_layer(Rootfs(folder), inflated, options)
    while inflated.read(1 << 20):
        pass  # what is compressed ends with its checksum: an archive that was cut there would pass for whole


def ignore_file_of(context: Rootfs) -> Place:
    """Where a context's own .dockerignore is."""
    return Place(context, ".dockerignore", ".dockerignore")


def read_ignore(*places: Place) -> IgnorePatterns:
    """The patterns of the first of the files that is there; its own patterns replace the others'.

    Raises:
        DockerfileError: one that is there and can't be read: without it, what it hides would get into the image.
    """
    for place in places:
        try:
            content = place.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise DockerfileError(
                f"cannot read {place.name}: {error.strerror}", hint="Check its mode and owner."
            ) from error
        return IgnorePatterns.parse(content.decode("utf-8", "replace"), place.name)
    return IgnorePatterns.parse("", ".dockerignore")


def _build_args(request: BuildRequest, environment: Mapping[str, str]) -> dict[str, str]:
    args: dict[str, str] = {}
    for arg in request.plan.build_args:
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


_FROM_CONTEXT = "context"
# What stands for SOURCE_DATE_EPOCH where none is given.
EPOCH_OF = {Timestamps.BUILD: "", Timestamps.SOURCE: _FROM_CONTEXT, Timestamps.ZERO: "0"}


def resolve_epoch(
    text: str, fetched: FetchedContext, source_of: Callable[[str], EpochSource | None], remotes: Remotes
) -> int | None:
    """Seconds since 1970; None without a value, or where the context has no time of its own (a folder).

    Args:
        source_of: gives what the stage of a name adds, None where there is no such stage.

    Raises:
        UsageError: when it is neither a number nor ``context`` nor a stage's name.
        DockerfileError, SourceError: a stage of another kind, a source that can't be fetched.
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
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 33:
        raise UsageError(
            f"{EPOCH}={text}: neither a number of seconds since 1970 nor 'context' nor a stage's name",
            hint="git log -1 --pretty=%ct gives a good one; 'context' takes it from a git context.",
        )
    return int(text)
