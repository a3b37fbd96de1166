"""Remote sources of ADD: files at URLs and git repositories, distinguished as in BuildKit.

No I/O. Dockerfile reference, "ADD", and "URL fragments" and "URL queries" of build contexts.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit, urlunsplit

from imagewright.logins import without_login
from imagewright.plan.gotext import parse_bool
from imagewright.records import dataclass
from imagewright.urls import parse_url

_SCHEME = re.compile(r"([A-Za-z0-9]+)://")
_SCP = re.compile(r"([A-Za-z0-9_-]+@[A-Za-z0-9.-]+:[^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT_PREFIX = re.compile(r"[0-9A-Fa-f]{1,64}")
_SWITCHES = ("keep-git-dir", "submodules", "fetch-by-commit")
_VALUES = ("ref", "tag", "branch", "subdir", "checksum", "commit", "mtime")
# BuildKit's name for a file whose URL has no path.
UNNAMED = "__unnamed__"


class RemoteError(ValueError):
    """An invalid URL or checksum, with a hint."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class UrlSource:
    """A file at an http or https URL. ``name`` is its name in a directory, ``checksum`` ``sha256:…`` or ``""``.

    ``unpack``: extract it if it is an archive.
    """

    url: str
    name: str
    checksum: str = ""
    unpack: bool = False

    def __str__(self) -> str:
        return without_login(self.url)


@dataclass(frozen=True, slots=True)
class GitRemote:
    """A revision of a git repository, or the directory ``subdir`` in it.

    ``ref`` is a branch, a tag, a full name (``refs/…``) or a full commit hash, ``""`` the HEAD of the remote.
    ``checksum`` is a prefix of the expected commit hash. With ``by_commit`` that commit is fetched, without resolving
    ``ref``. ``commit_times``: files get the time of the commit instead of the checkout.
    """

    url: str
    ref: str = ""
    checksum: str = ""
    subdir: str = ""
    keep_git_dir: bool | None = None
    submodules: bool = True
    by_commit: bool = False
    commit_times: bool = False

    def __str__(self) -> str:
        place = f"#{self.ref}" * bool(self.ref or self.subdir) + f":{self.subdir}" * bool(self.subdir)
        return without_login(self.url) + place


RemoteSource = UrlSource | GitRemote


def parse_remote(text: str) -> RemoteSource | None:
    """The remote source that ``text`` names, None for a path. A web address of a repository ends in ``.git``.

    Raises:
        RemoteError
    """
    scheme = _SCHEME.match(text)
    if scheme is None:
        match = None if text.startswith(("./", "../", "github.com/")) else _SCP.fullmatch(text)
        return None if match is None else _git(match[1], match[2] or "", match[3] or "")
    name = scheme[1].lower()
    if name not in ("http", "https", "git", "ssh"):
        raise RemoteError(f'unsupported URL scheme "{name}"', "Use https://, or ssh:// for a git repository.")
    try:
        # Of an address with another scheme, only how the host is written matters here.
        parse_url(text if name in ("http", "https") else "https" + text[scheme.end(1) :])
    except ValueError as error:
        raise RemoteError(f'invalid URL "{without_login(text)[:200]}": {error}', "Use https://host/path.") from None
    parts = urlsplit(text)
    if name in ("git", "ssh") or parts.path.endswith(".git"):
        return _git(urlunsplit((name, parts.netloc, parts.path, "", "")), parts.query, unquote(parts.fragment))
    return UrlSource(text, _name(parts))


def with_checksum(source: RemoteSource, checksum: str) -> RemoteSource:
    """The source with ``--checksum``.

    Raises:
        RemoteError: an invalid checksum for this kind of source, or not the one in its URL.
    """
    if isinstance(source, UrlSource):
        if not _CHECKSUM.fullmatch(checksum):
            raise RemoteError(
                f'invalid --checksum value "{checksum[:100]}": not a SHA-256 checksum',
                "Use sha256: and the 64 lower-case hexadecimal digits that sha256sum prints.",
            )
        return replace(source, checksum=checksum)
    if source.checksum and source.checksum != checksum:
        raise RemoteError(
            f"conflicting checksums: --checksum={checksum[:100]} and checksum={source.checksum[:100]} in the URL",
            "Remove one of them.",
        )
    _check_commit(checksum)
    return replace(source, checksum=checksum)


def with_git_dir(source: RemoteSource, keep: bool) -> RemoteSource:
    """The source with ``--keep-git-dir``, which has no effect on a file.

    Raises:
        RemoteError: the URL contradicts it.
    """
    if isinstance(source, UrlSource):
        return source
    if source.keep_git_dir not in (None, keep):
        raise RemoteError("--keep-git-dir conflicts with keep-git-dir in the URL", "Remove one of them.")
    return replace(source, keep_git_dir=keep)


def _name(parts: SplitResult) -> str:
    name = posixpath.basename(unquote(parts.path).rstrip("/")).strip()
    if not name:
        return UNNAMED
    # BuildKit's name where the URL has none that a file could have.
    return "download" if name in (".", "..") or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name) else name


def _git(url: str, query: str, fragment: str) -> GitRemote:
    ref, _, subdir = fragment.partition(":")
    values = _query(query)
    switches = {name: _switch(name, values[name]) for name in _SWITCHES if name in values}
    subdir = _one("subdir", _clean(subdir), _clean(values.get("subdir", "")))
    tag, branch = _full("refs/tags/", values.get("tag", "")), _full("refs/heads/", values.get("branch", ""))
    if tag and branch:
        raise RemoteError("tag and branch cannot both be set in the URL", "Remove one of them.")
    ref = _one("ref", _one("ref", ref, values.get("ref", "")), tag or branch)
    checksum = _one("checksum", values.get("checksum", ""), values.get("commit", ""))
    if checksum:
        _check_commit(checksum)
    by_commit = switches.get("fetch-by-commit", False)
    if by_commit and len(checksum) not in (40, 64):
        raise RemoteError("fetch-by-commit requires a full checksum", "Set checksum to the full commit hash.")
    if values.get("mtime", "commit") not in ("commit", "checkout"):
        raise RemoteError(f'invalid mtime value "{values["mtime"][:40]}" in the URL', "Use checkout or commit.")
    return GitRemote(
        url,
        ref,
        checksum,
        subdir,
        switches.get("keep-git-dir"),
        switches.get("submodules", True),
        by_commit,
        values.get("mtime") == "commit",
    )


def _query(query: str) -> Mapping[str, str]:
    values: dict[str, str] = {}
    for name, given in parse_qs(query, keep_blank_values=True).items():
        if name not in _SWITCHES and name not in _VALUES:
            raise RemoteError(
                f'unknown query key "{name[:60]}" in the URL of a repository',
                f"Use one of {', '.join([*_VALUES, *_SWITCHES])}.",
            )
        if len(given) > 1:
            raise RemoteError(f'query key "{name}" is repeated in the URL', "Remove all but one.")
        if not given[0] and name not in _SWITCHES:
            raise RemoteError(f'query key "{name}" has no value in the URL', f"Use {name}=value, or remove it.")
        values[name] = given[0]
    return values


def _switch(name: str, value: str) -> bool:
    switch = parse_bool(value) if value else True
    if switch is None:
        raise RemoteError(
            f'invalid {name} value "{value[:40]}" in the URL: must be true or false',
            f"Use {name}=true or {name}=false.",
        )
    return switch


def _one(name: str, first: str, second: str) -> str:
    if first and second and first != second:
        raise RemoteError(
            f'conflicting values "{first[:80]}" and "{second[:80]}" for {name} in the URL', "Remove one of them."
        )
    return first or second


def _full(prefix: str, name: str) -> str:
    return prefix + name.removeprefix(prefix) if name else ""


def _clean(subdir: str) -> str:
    return posixpath.normpath("/" + subdir).lstrip("/")


def _check_commit(checksum: str) -> None:
    if not _COMMIT_PREFIX.fullmatch(checksum):
        raise RemoteError(
            f'invalid checksum "{checksum[:100]}": not a commit hash',
            "Use the commit hash of the repository, or a prefix of it.",
        )
