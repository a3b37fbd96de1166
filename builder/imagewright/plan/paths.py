"""Paths of WORKDIR, COPY and ADD: made absolute, cleaned, limited to the root.

No I/O: ``fs`` follows symbolic links when it executes a step.
"""

from __future__ import annotations

import posixpath


def clean(path: str) -> str:
    """An absolute path without ``.``, ``..``, doubled or trailing slashes; ``..`` stops at the root."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def normal(path: str) -> str:
    """A path, absolute or relative, without ``.``, ``..``, doubled or trailing slashes; an empty one becomes ``.``."""
    return clean(path) if path.startswith("/") else posixpath.normpath(path)


def resolve(workdir: str, path: str) -> str:
    """``path`` relative to the working directory, unless it is absolute."""
    return clean(posixpath.join(workdir or "/", path))


def written(workdir: str, path: str) -> str:
    """``path`` as WORKDIR records it in the configuration: an absolute one unchanged, trailing slash included."""
    return path if path.startswith("/") else resolve(workdir, path)


def destination(workdir: str, path: str) -> str:
    """``path`` as COPY and ADD use it. A trailing ``/`` or ``/.`` marks a directory and is kept as ``/``."""
    folder = path in ("", ".") or path.endswith(("/", "/."))
    resolved = resolve(workdir, path)
    return resolved + "/" if folder and resolved != "/" else resolved


def source(path: str) -> str:
    """A source pattern relative to its root: ``..`` stops there, the root itself is ``.``."""
    return clean(path)[1:] or "."
