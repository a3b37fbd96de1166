"""Executes a COPY or ADD: where its sources are, and what is asked of ``fs.copy``.

Reads contexts, stages and images; writes into a stage's root file system. Called by ``engine.stage``.
"""

from __future__ import annotations

from imagewright.engine.session import Session
from imagewright.fs import copy, users
from imagewright.fs.changes import Changes
from imagewright.fs.mode import ModeChange
from imagewright.fs.rootfs import Rootfs
from imagewright.plan import ContextOrigin, CopyStep


def copy_step(session: Session, step: CopyStep, rootfs: Rootfs) -> Changes:
    """Carry out a COPY or ADD; the changes that it made.

    Raises:
        FileSystemError: a source that isn't there, a destination that can't be written.
    """
    source, ignore = session.origin(step.origin)
    request = copy.CopyRequest(
        source=source,
        patterns=step.sources,
        destination=step.destination,
        ownership=users.lookup_ownership(rootfs, step.chown) if step.chown else None,
        mode=ModeChange.parse(step.chmod) if step.chmod else None,
        extract=step.extract,
        ignore=ignore,
        preserve_owner=not isinstance(step.origin, ContextOrigin),
    )
    return copy.copy(rootfs, request)
