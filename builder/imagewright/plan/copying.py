"""COPY and ADD: sources, destination and flags, expanded and checked (Dockerfile reference, "COPY" and "ADD").

No I/O. Called by ``plan.stage``.
"""

from __future__ import annotations

import re

from imagewright.dockerfile.model import Add, Copy, Heredoc, Located
from imagewright.plan import paths
from imagewright.plan.frame import Frame, PlannedInstruction
from imagewright.plan.model import ContextOrigin, CopyStep, InlineFile
from imagewright.plan.support import check_sources

_OCTAL = re.compile(r"0*[0-7]{1,4}")
_SYMBOLIC = re.compile(r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*")


def plan_copy(frame: Frame, instruction: Copy | Add, item: PlannedInstruction) -> CopyStep:
    """The step that a COPY or ADD is.

    Raises:
        DockerfileError: an expansion that can't be, an empty source, a mode that is none.
    """
    sources = tuple(frame.expand(instruction, source) for source in instruction.sources)
    check_sources(instruction, sources, frame.scope.source)
    for written, path in zip(instruction.sources, sources, strict=True):
        if not path:
            raise frame.error(instruction, f"the source {written} is empty", written)
    destination = frame.expand(instruction, instruction.destination)
    chown = frame.expand(instruction, instruction.chown)
    chmod = frame.expand(instruction, instruction.chmod)
    _check_mode(frame, instruction, chmod)
    excludes = tuple(frame.expand(instruction, pattern) for pattern in instruction.excludes)
    files = tuple(_inline_file(frame, instruction, heredoc) for heredoc in instruction.heredocs)
    parents = isinstance(instruction, Copy) and instruction.parents
    name = type(instruction).__name__.upper()
    flags = ["--parents"] if parents else []
    flags += [f"--chown={chown}"] if chown else []
    flags += [f"--chmod={chmod}"] if chmod else []
    shown = [*sources, *(f"<<{file.name}" for file in files)]
    created_by = " ".join([name, *flags, *shown, destination, "# buildkit"])
    origin = item.origins[instruction.from_] if isinstance(instruction, Copy) and instruction.from_ else ContextOrigin()
    return CopyStep(
        frame.text(instruction, frame.title(instruction), created_by, onbuild=item.onbuild),
        tuple(_with_pivot(path) if parents else paths.source(path) for path in sources),
        paths.destination(frame.image.workdir, destination),
        origin,
        chown,
        chmod,
        isinstance(instruction, Add) and instruction.unpack is not False,
        files,
        parents,
        excludes,
        instruction.link,
    )


def _inline_file(frame: Frame, instruction: Copy | Add, heredoc: Heredoc) -> InlineFile:
    """Variables are expanded unless the name is quoted; quotes in the body are characters like others."""
    body = heredoc.body
    if heredoc.strip_tabs:
        body = re.sub(r"^\t+", "", body, flags=re.MULTILINE)
    return InlineFile(heredoc.name, frame.expand_body(instruction, body) if heredoc.expand else body)


def _with_pivot(path: str) -> str:
    """A source of --parents: the folders before the first ``/./`` are not kept."""
    before, pivot, after = path.partition("/./")
    return f"{paths.source(before)}/./{paths.source(after)}" if pivot else paths.source(path)


def _check_mode(frame: Frame, instruction: Located, chmod: str) -> None:
    if chmod and not _OCTAL.fullmatch(chmod) and not _SYMBOLIC.fullmatch(chmod):
        hint = "Write an octal mode up to 7777, as in --chmod=755, or a symbolic one, as in --chmod=u+x,go=r."
        raise frame.error(instruction, f"--chmod={chmod} is no file mode", chmod, hint)
