"""Contexts: how the planner sees named ones (--build-context), and how their files are fetched.

Fetches the named contexts that the plan reads, pulls a context that is an OCI artifact, and asks a git server for a
commit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from imagewright.context.git.checkout import find_commit
from imagewright.context.job import FetchedContext, Machine
from imagewright.contract.request import BuildRequest
from imagewright.contract.result import BuildResult, SourceResult
from imagewright.contract.sources import DirectorySource, GitSource, HttpSource, ImageSource, LayoutSource, Source
from imagewright.contract.sources import NamedContext as RequestedContext
from imagewright.descent import temporary_directory
from imagewright.engine.events import Reporter
from imagewright.engine.pull.layouts import layout_reference
from imagewright.errors import Reason, RegistryError, SourceError
from imagewright.plan.options import DirectoryContext, ImageContext, NamedContext
from imagewright.plan.remote import UrlSource
from imagewright.reference import Reference
from imagewright.registry.pull import Puller


def plan_contexts(requested: Iterable[RequestedContext]) -> Mapping[str, NamedContext]:
    """The named contexts for the planner.

    Raises:
        ReferenceError: an invalid image reference.
    """
    return {each.name: _planned(each) for each in requested}


def _planned(requested: RequestedContext) -> NamedContext:
    match requested.source:
        case ImageSource(reference=reference):
            return ImageContext(Reference.parse(reference))
        case DirectorySource() | GitSource() | HttpSource():
            return DirectoryContext()
        case LayoutSource():
            return ImageContext(layout_reference(requested.name))


def fetch_contexts(
    requested: Iterable[RequestedContext],
    wanted: frozenset[str],
    folder: str,
    fetch: Callable[[str, Source], FetchedContext],
    download: Callable[[UrlSource, str], None],
) -> dict[str, str]:
    """Fetch the contexts that the plan reads; their folders by name.

    Args:
        fetch: fetches a source; the first argument is a folder to work in, which is created here.
        download: writes the file at a URL into a folder. As in BuildKit such a context is one file named ``context``.

    Raises:
        SourceError
    """
    folders: dict[str, str] = {}
    for number, each in enumerate(requested):
        if each.name not in wanted or isinstance(each.source, ImageSource | LayoutSource):
            continue
        work_dir = os.path.join(folder, f"named-{number}")
        os.mkdir(work_dir, 0o700)
        if isinstance(each.source, HttpSource):
            download(UrlSource(each.source.url, "context"), work_dir)
            folders[each.name] = work_dir
        else:
            folders[each.name] = fetch(work_dir, each.source).path
    return folders


_CHUNK_BYTES = 1 << 20


def pull_artifact(puller: Puller, reference: str, path: str) -> None:
    """Write an artifact's verified layer (manifest.md, "Guidelines for Artifact Usage") into the new file ``path``.

    Raises:
        RegistryError, UsageError: of the registry; an invalid reference.
        SourceError: it does not exist, or does not have exactly one layer.
    """
    name = Reference.parse(reference)
    manifest = puller.find(name, pulling=True)
    if manifest is None:
        raise SourceError(
            f'cannot pull context "{name.familiar()}": not found',
            reason=Reason.FILE_NOT_FOUND,
            hint="Check the name and the tag.",
        )
    if len(manifest.layers) != 1:
        raise SourceError(
            f'cannot use "{name.familiar()}" as a context: it has {len(manifest.layers)} layers instead of one',
            hint="Push the context with flux push artifact, or oras push REFERENCE context.tar.gz.",
        )
    try:
        with puller.open_found(name, manifest.layers[0], pulling=True) as stream, open(path, "wb") as file:
            while data := stream.read(_CHUNK_BYTES):
                file.write(data)
    except RegistryError as error:
        raise SourceError(
            f'cannot pull context "{name.familiar()}": {error.why}', reason=error.reason, hint=error.hint
        ) from error


def find_source_commit(request: BuildRequest, environment: Mapping[str, str], reporter: Reporter) -> BuildResult:
    """Ask which commit a build would use, without fetching it.

    Raises:
        SourceError: as ``context.git``; the source is not a git repository.
    """
    if not isinstance(request.context.source, GitSource):
        raise SourceError(
            "cannot look up the commit of a source that is not a git repository",
            reason=Reason.NOT_SUPPORTED,
            hint="Remove poll, or use a git source.",
        )
    if request.work_dir:
        os.makedirs(request.work_dir, exist_ok=True)
    with temporary_directory("probe-", request.work_dir or None) as folder:
        commit = find_commit(request.context.source, Machine(folder, environment, reporter.message))
    reporter.message(f"at commit {commit}")
    return BuildResult(source=SourceResult(commit=commit))
