"""Plans COPY and ADD: expands and checks sources, destination and flags (Dockerfile reference, "COPY" and "ADD").

No I/O.
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
    """The step of a COPY or ADD.

    Raises:
        DockerfileError: an invalid expansion, source, URL or flag.
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
    """The remote source that each source names, None for a path."""
    checksum = scope.expand(instruction, instruction.checksum) if isinstance(instruction, Add) else ""
    if checksum and len(sources) + len(instruction.heredocs) != 1:
        raise scope.error(
            instruction, "--checksum requires a single source", "--checksum", "Use one ADD for each source."
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
            what = "a git repository" if isinstance(remote, GitRemote) else "a URL"
            message = f'cannot COPY "{written[:200]}": it is {what}'
            raise scope.error(instruction, message, written, "Use ADD for URLs and git repositories.")
        found.append(remote)
    if checksum and found == [None]:
        raise scope.error(
            instruction,
            "--checksum requires a URL or a git repository as the source",
            "--checksum",
            "Remove --checksum, or use a remote source.",
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
    """A file in a directory needs a name (reference, "Adding files from a URL")."""
    if not instruction.destination.endswith("/"):
        return
    for written, remote in zip(instruction.sources, remotes, strict=True):
        if isinstance(remote, UrlSource) and remote.name == UNNAMED and not remote.unpack:
            raise scope.error(
                instruction,
                f'cannot determine the file name of "{remote}": the URL has no path',
                written,
                f"Use a destination with a file name: {instruction.destination}NAME.",
            )


def _inline_file(scope: StageScope, instruction: Copy | Add, heredoc: Heredoc) -> InlineFile:
    """Variables are expanded unless the name is quoted; quotes in the body are ordinary characters."""
    body = heredoc.content
    return InlineFile(heredoc.name, scope.expand_body(instruction, body) if heredoc.expand else body)


def _with_pivot(scope: StageScope, instruction: Located, path: str, written: str) -> str:
    """A source of --parents: the directories before the first ``/./`` are not kept."""
    before, pivot, after = path.partition("/./")
    if paths.source(after if pivot else path) == ".":
        hint = "Remove --parents: the contents of a directory keep their relative paths without it."
        raise scope.error(instruction, f'invalid source "{written}" for --parents: it has no parents', written, hint)
    return f"{paths.source(before)}/./{paths.source(after)}" if pivot else paths.source(path)
