"""Named contexts (--build-context): what they are to the planner, and their files.

Fetches those that the plan reads. Called by ``engine.inputs`` and ``engine.build``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from imagewright.context.fetch import FetchedContext
from imagewright.contract import DirectorySource, GitSource, HttpSource, ImageSource, LayoutSource, Source
from imagewright.contract import NamedContext as RequestedContext
from imagewright.errors import UnsupportedError
from imagewright.plan import FolderContext, ImageContext, NamedContext
from imagewright.reference import Reference


def plan_contexts(requested: Iterable[RequestedContext]) -> Mapping[str, NamedContext]:
    """What each name means to the planner.

    Raises:
        ReferenceError: an image that can't be named so.
        UnsupportedError: a kind of context that this version doesn't have.
    """
    return {each.name: _planned(each) for each in requested}


def _planned(requested: RequestedContext) -> NamedContext:
    match requested.source:
        case ImageSource(reference=reference):
            return ImageContext(Reference.parse(reference))
        case DirectorySource() | GitSource():
            return FolderContext()
        case LayoutSource():
            what = "oci-layout://"
        case HttpSource():
            what = "an archive from a URL"
    raise UnsupportedError(
        f"--build-context {requested.name}: {what} is not supported yet",
        hint="Use a folder, a git repository, or an image of a registry (docker-image://…).",
    )


def fetch_contexts(
    requested: Iterable[RequestedContext],
    wanted: frozenset[str],
    folder: str,
    fetch: Callable[[str, Source], FetchedContext],
) -> dict[str, str]:
    """The folders of those contexts that the plan takes files from, by name.

    Args:
        fetch: fetches a source; the first argument is a folder to work in, which is made here.

    Raises:
        SourceError
    """
    folders: dict[str, str] = {}
    for number, each in enumerate(requested):
        if each.name in wanted and isinstance(each.source, DirectorySource | GitSource):
            work_dir = os.path.join(folder, f"named-{number}")
            os.mkdir(work_dir, 0o700)
            folders[each.name] = fetch(work_dir, each.source).path
    return folders
