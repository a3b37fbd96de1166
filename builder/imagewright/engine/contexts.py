"""Named contexts (--build-context): what they are to the planner, and their files.

Fetches those that the plan reads. Called by ``engine.inputs`` and ``engine.build``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from imagewright.context.job import FetchedContext
from imagewright.contract.sources import DirectorySource, GitSource, HttpSource, ImageSource, LayoutSource, Source
from imagewright.contract.sources import NamedContext as RequestedContext
from imagewright.engine.layouts import layout_reference
from imagewright.plan.options import FolderContext, ImageContext, NamedContext
from imagewright.plan.remote import UrlSource
from imagewright.reference import Reference


def plan_contexts(requested: Iterable[RequestedContext]) -> Mapping[str, NamedContext]:
    """What each name means to the planner.

    Raises:
        ReferenceError: an image that can't be named so.
    """
    return {each.name: _planned(each) for each in requested}


def _planned(requested: RequestedContext) -> NamedContext:
    match requested.source:
        case ImageSource(reference=reference):
            return ImageContext(Reference.parse(reference))
        case DirectorySource() | GitSource() | HttpSource():
            return FolderContext()
        case LayoutSource():
            return ImageContext(layout_reference(requested.name))


def fetch_contexts(
    requested: Iterable[RequestedContext],
    wanted: frozenset[str],
    folder: str,
    fetch: Callable[[str, Source], FetchedContext],
    download: Callable[[UrlSource, str], None],
) -> dict[str, str]:
    """The folders of those contexts that the plan takes files from, by name.

    Args:
        fetch: fetches a source; the first argument is a folder to work in, which is made here.
        download: writes what is at a URL into a folder. Such a context is that one file, called ``context`` (BuildKit).

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
