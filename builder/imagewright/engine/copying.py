"""Executes a COPY or ADD: where its sources are, and what is asked of ``fs.copy``.

Reads contexts, stages and images; writes into a stage's root file system. Called by ``engine.stage``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace

from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.engine.session import Session
from imagewright.fs import users
from imagewright.fs.changes import Changes
from imagewright.fs.copy import CopyRequest, ParentsPattern, copy
from imagewright.fs.link import copy_linked
from imagewright.fs.mode import ModeChange
from imagewright.fs.rootfs import Rootfs
from imagewright.plan import ContextOrigin, CopyStep


def copy_step(session: Session, step: CopyStep, rootfs: Rootfs) -> Changes:
    """Carry out a COPY or ADD; the changes that it made.

    Raises:
        FileSystemError: a source that isn't there, a destination that can't be written.
    """
    with tempfile.TemporaryDirectory(prefix="copy-", dir=session.workspace.path) as scratch:
        requests = list(_requests(session, step, rootfs, scratch))
        if step.link:
            staged = os.path.join(scratch, "linked")
            os.mkdir(staged, 0o755)
            return copy_linked(rootfs, Rootfs(staged), requests)
        written: set[bytes] = set()
        for request in requests:
            written.update(copy(rootfs, request).written)
        return Changes(tuple(sorted(written)), ())


def _requests(session: Session, step: CopyStep, rootfs: Rootfs, scratch: str) -> Iterator[CopyRequest]:
    """One for the files of the origin, one for the heredocs."""
    source, ignore = session.origin(step.origin)
    exclude = IgnorePatterns.parse("\n".join(step.excludes), "--exclude") if step.excludes else None
    request = CopyRequest(
        source=source,
        patterns=step.sources,
        destination=step.destination,
        ownership=users.lookup_ownership(rootfs, step.chown) if step.chown else None,
        mode=ModeChange.parse(step.chmod) if step.chmod else None,
        extract=step.extract,
        ignore=ignore,
        preserve_owner=not isinstance(step.origin, ContextOrigin),
        exclude=exclude,
        several=len(step.sources) + len(step.files) > 1,
    )
    if step.sources:
        only = tuple(_parents_pattern(source) for source in step.sources) if step.parents else ()
        yield replace(request, only=only)
    if step.files:
        inline = os.path.join(scratch, "inline")
        os.mkdir(inline, 0o755)
        for file in step.files:
            path = os.path.join(inline, file.name)
            with open(path, "wb") as out:
                out.write(file.content.encode("utf-8", "surrogateescape"))
            os.chmod(path, 0o644)
        names = tuple(file.name for file in step.files)
        yield replace(
            request,
            source=Rootfs(inline),
            patterns=names,
            ignore=None,
            preserve_owner=False,
            exclude=None,
            extract=False,
        )


def _parents_pattern(source: str) -> ParentsPattern:
    base, pivot, pattern = source.partition("/./")
    if not pivot:
        base, pattern = "", source
    return ParentsPattern(base, pattern, IgnorePatterns.parse(pattern, "--parents"))
