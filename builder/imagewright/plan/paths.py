"""Paths of WORKDIR, COPY and ADD: made absolute, cleaned, clamped to the root.

No I/O: symbolic links are followed by ``fs``, which sees them. Called by ``plan.stage``.
"""

from __future__ import annotations

import posixpath


def clean(path: str) -> str:
    """An absolute path without ``.``, ``..``, doubled or trailing slashes; ``..`` stops at the root."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def normal(path: str) -> str:
    """Without ``.``, ``..``, doubled or trailing slashes, absolute or relative as it is; an empty one is ``.``."""
    return clean(path) if path.startswith("/") else posixpath.normpath(path)


def resolve(workdir: str, path: str) -> str:
    """``path`` relative to the working directory, unless it is absolute."""
    return clean(posixpath.join(workdir or "/", path))


def written(workdir: str, path: str) -> str:
    """``path`` as WORKDIR puts it into the configuration: an absolute one as it is, down to a slash at its end."""
    return path if path.startswith("/") else resolve(workdir, path)


def destination(workdir: str, path: str) -> str:
    """``path`` as COPY and ADD take it; a trailing ``/`` or ``/.`` says that a folder is meant and is kept as ``/``."""
    folder = path in ("", ".") or path.endswith(("/", "/."))
    resolved = resolve(workdir, path)
    return resolved + "/" if folder and resolved != "/" else resolved


def source(path: str) -> str:
    """A source pattern relative to its root: ``..`` stops there, the root itself is ``.``."""
    return clean(path)[1:] or "."
