"""What to say where there is no Dockerfile: those that are there, the most alike first.

Lists folders, a bounded number of entries: a context may be a home folder.
"""

from __future__ import annotations

import difflib
import itertools
import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from imagewright.fs.rootfs.root import Rootfs

_MAX_ENTRIES = 5000
_MAX_DEPTH = 5
_MAX_SHOWN = 5
_ALIKE = 0.6
_NAMES = ("dockerfile", "containerfile")
_ADVICE = "Name it with --dockerfile (ImageBuild: dockerfile), relative to the context."


def found_instead(path: str, context: Rootfs) -> str:
    """A hint for a ``path`` at which there is no Dockerfile: in the context, or an absolute one elsewhere."""
    path = os.path.normpath(path)
    listed = list(_listing(context))
    candidates = [each for each in listed if _may_be_meant(each, path)]
    if os.path.isabs(path):
        candidates += [each for each in _beside(path) if _may_be_meant(each, path)]
    if not candidates:
        top = [name for name in listed if "/" not in name.rstrip("/")]
        return f"{_ADVICE} None was found in the context, which {f'holds {_some(top)}' if top else 'is empty'}."
    candidates.sort(key=lambda each: (*(-rank for rank in _likeness(each, path)), each))
    first, *others = candidates
    if _likeness(first, path)[0] < _ALIKE:
        return f"{_ADVICE} Found: {_some(candidates)}."
    return f"Did you mean {first}?" + (f" Also found: {_some(others)}." if others else "")


def _may_be_meant(candidate: str, path: str) -> bool:
    """Whether a file is called as a Dockerfile is, or as the one that is wanted."""
    name = os.path.basename(candidate).lower()
    if not name or not candidate.isprintable() or name.endswith(".dockerignore"):
        return False
    return name == os.path.basename(path).lower() or any(part in name for part in _NAMES)


def _likeness(candidate: str, path: str) -> tuple[float, float]:
    """How much alike they are at best, and how much as they are written; each from 0 to 1."""
    whole = _ratio(candidate, path)
    if candidate.startswith(f"{path}/"):  # the folder was named in place of the file
        return 1.0, whole
    return max(whole, _ratio(os.path.basename(candidate), os.path.basename(path))), whole


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _some(names: list[str]) -> str:
    """The first of the names, and how many more there are."""
    shown = [name for name in names if name.isprintable()][:_MAX_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _beside(path: str) -> Iterator[str]:
    """The files in the folder of an absolute path."""
    folder = os.path.dirname(path)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in itertools.islice(entries, _MAX_ENTRIES):
            if entry.is_file():
                yield entry.path


def _listing(context: Rootfs) -> Iterator[str]:
    """What is in the context, folders with a slash at their end, the topmost first."""
    left, waiting = _MAX_ENTRIES, deque([("", 0)])
    while waiting:
        folder, depth = waiting.popleft()
        with suppress(OSError), context.directory(os.fsencode(folder)) as fd, os.scandir(fd) as entries:
            for entry in sorted(itertools.islice(entries, left), key=lambda each: each.name):
                left -= 1
                is_folder = entry.is_dir(follow_symlinks=False)
                yield f"{folder}{entry.name}{'/' if is_folder else ''}"
                if is_folder and depth < _MAX_DEPTH and entry.name != ".git":
                    waiting.append((f"{folder}{entry.name}/", depth + 1))
