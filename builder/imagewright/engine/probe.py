"""Which commit a build would be of, asked without fetching it: for who watches a branch.

Talks to a git server. Called by the command ``probe``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping

from imagewright.context.git.checkout import find_commit
from imagewright.context.job import Machine
from imagewright.contract.request import BuildRequest
from imagewright.contract.result import BuildResult, SourceResult
from imagewright.contract.sources import GitSource
from imagewright.engine.events import Reporter
from imagewright.errors import Reason, SourceError


def probe(request: BuildRequest, environment: Mapping[str, str], reporter: Reporter) -> BuildResult:
    """A result that names nothing but the commit.

    Raises:
        SourceError: what ``context.git`` raises; the source is no git repository.
    """
    if not isinstance(request.context.source, GitSource):
        raise SourceError(
            "only a git repository can be asked for its commit",
            reason=Reason.NOT_SUPPORTED,
            hint="Leave poll out of other sources.",
        )
    if request.work_dir:
        os.makedirs(request.work_dir, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="probe-", dir=request.work_dir or None) as folder:
        commit = find_commit(request.context.source, Machine(folder, environment, reporter.message))
    reporter.message(f"at commit {commit}")
    return BuildResult(source=SourceResult(commit=commit))
