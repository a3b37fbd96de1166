"""COPY and ADD: sources, destination and flags, expanded and checked (Dockerfile reference, "COPY" and "ADD").

No I/O. Called by ``plan.stage``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from imagewright.dockerfile.flags import FlagError, flags_of
from imagewright.dockerfile.model import Add, Copy, CopyOptions, Heredoc, Located
from imagewright.plan import paths
from imagewright.plan.origins import ContextOrigin
from imagewright.plan.remote import (
    UNNAMED,
    GitRemote,
    RemoteError,
    RemoteSource,
    UrlSource,
    parse_remote,
    with_checksum,
    with_git_dir,
)
from imagewright.plan.scope import PlannedInstruction, StageScope
from imagewright.plan.steps import CopyStep, InlineFile


def plan_copy(scope: StageScope, instruction: Copy | Add, item: PlannedInstruction) -> CopyStep:
    """The step that a COPY or ADD is.

    Raises:
        DockerfileError: an expansion that can't be, an empty source, an address that can't be read, a mode that is none.
    """
    sources = tuple(scope.expand(instruction, source) for source in instruction.sources)
    destination = scope.expand(instruction, instruction.destination)
    remotes = _remotes(scope, instruction, sources)
    options = _options(scope, instruction)
    files = tuple(_inline_file(scope, instruction, heredoc) for heredoc in instruction.heredocs)
    name = type(instruction).__name__.upper()
    recorded = [flag for flag in flags_of(CopyOptions).values() if flag.in_history]
    flags = [word for flag in recorded for word in flag.as_written(getattr(options, flag.field))]
    shown = [*sources, *(f"<<{file.name}" for file in files)]
    created_by = " ".join([name, *flags, *shown, destination, "# buildkit"])
    origin = item.origins[instruction.from_] if isinstance(instruction, Copy) and instruction.from_ else ContextOrigin()
    return CopyStep(
        scope.text(item, created_by),
        tuple(
            remote or (_with_pivot(scope, instruction, path, written) if options.parents else paths.source(path))
            for written, path, remote in zip(instruction.sources, sources, remotes, strict=True)
        ),
        paths.destination(scope.image.workdir, destination),
        origin,
        options,
        isinstance(instruction, Add) and instruction.unpack is not False,
        files,
    )


def _options(scope: StageScope, instruction: Copy | Add) -> CopyOptions:
    """The flags, with variables expanded."""
    expanded: dict[str, Any] = {}
    for flag in flags_of(CopyOptions).values():
        written = getattr(instruction.options, flag.field)
        match written:
            case str():
                expanded[flag.field] = scope.expand(instruction, written)
            case tuple():
                expanded[flag.field] = tuple(scope.expand(instruction, one) for one in written)
        if flag.check is not None:
            try:
                flag.check(expanded[flag.field])
            except FlagError as error:
                message = f'invalid --{flag.name} value "{written}": {error.reason}'
                raise scope.error(instruction, message, written, flag.hint) from None
    options = replace(instruction.options, **expanded)
    return replace(options, link=options.link and not options.chmod)  # with both, BuildKit copies as without --link


def _remotes(scope: StageScope, instruction: Copy | Add, sources: tuple[str, ...]) -> tuple[RemoteSource | None, ...]:
    """What each source means; None is a path."""
    checksum = scope.expand(instruction, instruction.checksum) if isinstance(instruction, Add) else ""
    if checksum and len(sources) + len(instruction.heredocs) != 1:
        raise scope.error(
            instruction, "--checksum is of one source, and here are several", "--checksum", "Write an ADD for each."
        )
    found: list[RemoteSource | None] = []
    for written, path in zip(instruction.sources, sources, strict=True):
        if not path:
            of = instruction.from_ if isinstance(instruction, Copy) else ""
            message = f"The source {written} is empty, which copies all of {of or 'the build context'}"
            scope.warn("EmptyCopySource", message, instruction, written)
        with _pointing(scope, instruction, written):
            remote = parse_remote(path)
        if remote is not None and isinstance(instruction, Add):
            remote = _flagged(scope, instruction, remote, checksum)
        if remote is not None and isinstance(instruction, Copy):
            hint = "COPY takes files of the context; ADD takes URLs."
            what = "a git repository" if isinstance(remote, GitRemote) else "a URL"
            raise scope.error(instruction, f"COPY: {written[:200]} is {what}", written, hint)
        found.append(remote)
    if checksum and found == [None]:
        raise scope.error(
            instruction,
            "--checksum is for files from a URL and git repositories",
            "--checksum",
            "Files of the context need none: they are what they are.",
        )
    _check_names(scope, instruction, found)
    return tuple(found)


def _flagged(scope: StageScope, instruction: Add, remote: RemoteSource, checksum: str) -> RemoteSource:
    if checksum:
        with _pointing(scope, instruction, "--checksum"):
            remote = with_checksum(remote, checksum)
    if isinstance(remote, UrlSource):
        return replace(remote, unpack=instruction.unpack is True)
    if instruction.keep_git_dir is not None:
        with _pointing(scope, instruction, "--keep-git-dir"):
            remote = with_git_dir(remote, instruction.keep_git_dir)
    return remote


@contextmanager
def _pointing(scope: StageScope, instruction: Located, word: str) -> Iterator[None]:
    try:
        yield
    except RemoteError as error:
        raise scope.error(instruction, error.message, word, error.hint) from None


def _check_names(scope: StageScope, instruction: Copy | Add, remotes: list[RemoteSource | None]) -> None:
    """A file in a folder needs a name (reference, "Adding files from a URL")."""
    if not instruction.destination.endswith("/"):
        return
    for written, remote in zip(instruction.sources, remotes, strict=True):
        if isinstance(remote, UrlSource) and remote.name == UNNAMED and not remote.unpack:
            raise scope.error(
                instruction,
                f"{remote} has no path, so its file has no name",
                written,
                f"Name the file: {instruction.destination}NAME instead of {instruction.destination}.",
            )


def _inline_file(scope: StageScope, instruction: Copy | Add, heredoc: Heredoc) -> InlineFile:
    """Variables are expanded unless the name is quoted; quotes in the body are characters like others."""
    body = heredoc.content
    return InlineFile(heredoc.name, scope.expand_body(instruction, body) if heredoc.expand else body)


def _with_pivot(scope: StageScope, instruction: Located, path: str, written: str) -> str:
    """A source of --parents: the folders before the first ``/./`` are not kept."""
    before, pivot, after = path.partition("/./")
    if paths.source(after if pivot else path) == ".":
        hint = "Leave --parents out: all of a folder's contents keep their places without it."
        raise scope.error(instruction, f"--parents: {written} names nothing whose folders could be kept", written, hint)
    return f"{paths.source(before)}/./{paths.source(after)}" if pivot else paths.source(path)
