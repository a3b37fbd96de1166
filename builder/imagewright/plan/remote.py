"""Sources of ADD that are elsewhere: files at a URL and git repositories, told apart as BuildKit does.

No I/O. Called by ``plan.copying``. Dockerfile reference, "ADD", and "URL fragments" and "URL queries" of build contexts.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit, urlunsplit

from imagewright.plan.gotext import parse_bool

_SCHEME = re.compile(r"([A-Za-z0-9]+)://")
_SCP = re.compile(r"([A-Za-z0-9_-]+@[A-Za-z0-9.-]+:[^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT_PREFIX = re.compile(r"[0-9A-Fa-f]{1,64}")
_SWITCHES = ("keep-git-dir", "submodules", "fetch-by-commit")
_VALUES = ("ref", "tag", "branch", "subdir", "checksum", "commit", "mtime")
# Go's path.Base leaves nothing of an address without a path; BuildKit calls the file so.
UNNAMED = "__unnamed__"


class RemoteError(ValueError):
    """An address that can't be read; ``hint`` says how it is written."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class UrlSource:
    """A file at an http or https address. ``name`` is what it is called in a folder, ``checksum`` ``sha256:…`` or ``""``.

    ``unpack``: where it is an archive, what is in it is meant.
    """

    url: str
    name: str
    checksum: str = ""
    unpack: bool = False

    def __str__(self) -> str:
        return without_login(self.url)


@dataclass(frozen=True, slots=True)
class GitRemote:
    """A revision of a git repository, or the folder ``subdir`` of it.

    ``ref`` is a branch, a tag, a full name (``refs/…``) or a full commit hash, ``""`` the remote's HEAD. ``checksum`` is
    the beginning of the hash that the revision must have. With ``by_commit`` that is what is fetched, and ``ref`` is not
    asked for. ``commit_times``: files are as old as the commit, not as the checkout.
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
    """What a source of ADD means; None for a path. An http(s) address is a repository where its path ends in ``.git``.

    Raises:
        RemoteError
    """
    scheme = _SCHEME.match(text)
    if scheme is None:
        match = None if text.startswith(("./", "../", "github.com/")) else _SCP.fullmatch(text)
        return None if match is None else _git(match[1], match[2] or "", match[3] or "")
    name = scheme[1].lower()
    if name not in ("http", "https", "git", "ssh"):
        raise RemoteError(
            f"{name}:// is no address that ADD takes", "Write https://, or ssh:// for a git repository; or copy a file."
        )
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 -- raises for a port that is none
    except ValueError as error:
        raise RemoteError(f"{without_login(text)[:200]} is no address: {error}", "Write https://host/path.") from None
    if not parts.hostname:
        raise RemoteError(f"{without_login(text)[:200]} names no host", "Write https://host/path.")
    if name in ("git", "ssh") or parts.path.endswith(".git"):
        return _git(urlunsplit((name, parts.netloc, parts.path, "", "")), parts.query, unquote(parts.fragment))
    return UrlSource(text, _name(parts))


def with_checksum(source: RemoteSource, checksum: str) -> RemoteSource:
    """The same with ``--checksum``.

    Raises:
        RemoteError: not the checksum that such a source has, or another than its address has.
    """
    if isinstance(source, UrlSource):
        if not _CHECKSUM.fullmatch(checksum):
            raise RemoteError(
                f"--checksum={checksum[:100]} is no SHA-256 checksum",
                "Write sha256: and 64 digits 0-9a-f, as sha256sum prints them. There is no other algorithm.",
            )
        return replace(source, checksum=checksum)
    if source.checksum and source.checksum != checksum:
        raise RemoteError(
            f"--checksum={checksum[:100]} contradicts checksum={source.checksum[:100]} in the address",
            "Write it once.",
        )
    _check_commit(checksum)
    return replace(source, checksum=checksum)


def with_git_dir(source: RemoteSource, keep: bool) -> RemoteSource:
    """The same with ``--keep-git-dir``, which means nothing to a file at a URL.

    Raises:
        RemoteError: the address says the opposite.
    """
    if isinstance(source, UrlSource):
        return source
    if source.keep_git_dir not in (None, keep):
        raise RemoteError("--keep-git-dir contradicts keep-git-dir in the address", "Write it once.")
    return replace(source, keep_git_dir=keep)


def without_login(text: str) -> str:
    """An address as it may be shown: with what comes before ``@`` left out, but for the user of ssh."""
    return re.sub(r"^(https?://)[^/@]*@", r"\1", text, flags=re.IGNORECASE)


def _name(parts: SplitResult) -> str:
    name = posixpath.basename(unquote(parts.path).rstrip("/")).strip()
    if not name:
        return UNNAMED
    # BuildKit's words for what can't be a file's name.
    return "download" if name in (".", "..") or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name) else name


def _git(url: str, query: str, fragment: str) -> GitRemote:
    ref, _, subdir = fragment.partition(":")
    values = _query(query)
    switches = {name: _switch(name, values[name]) for name in _SWITCHES if name in values}
    subdir = _one("subdir", _clean(subdir), _clean(values.get("subdir", "")))
    tag, branch = _full("refs/tags/", values.get("tag", "")), _full("refs/heads/", values.get("branch", ""))
    if tag and branch:
        raise RemoteError("tag and branch can't both be given", "Write the one that is meant.")
    ref = _one("ref", _one("ref", ref, values.get("ref", "")), tag or branch)
    checksum = _one("checksum", values.get("checksum", ""), values.get("commit", ""))
    if checksum:
        _check_commit(checksum)
    by_commit = switches.get("fetch-by-commit", False)
    if by_commit and len(checksum) not in (40, 64):
        raise RemoteError("fetch-by-commit needs a checksum", "Give the commit's full hash, as checksum=….")
    if values.get("mtime", "commit") not in ("commit", "checkout"):
        raise RemoteError(f"mtime={values['mtime'][:40]} is no time", "It is checkout or commit.")
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
                f"{name[:60]} is nothing that a repository's address can say",
                f"It can say {', '.join([*_VALUES, *_SWITCHES])}.",
            )
        if len(given) > 1:
            raise RemoteError(f"{name} is given more than once in the address", "Write it once.")
        if not given[0] and name not in _SWITCHES:
            raise RemoteError(f"{name} has no value in the address", f"Write {name}=…, or leave it out.")
        values[name] = given[0]
    return values


def _switch(name: str, value: str) -> bool:
    switch = parse_bool(value) if value else True
    if switch is None:
        raise RemoteError(f"{name}={value[:40]} is neither true nor false", f"Write {name}=true or {name}=false.")
    return switch


def _one(name: str, first: str, second: str) -> str:
    if first and second and first != second:
        raise RemoteError(f"{name} is {first[:80]} and {second[:80]} in one address", "Write the one that is meant.")
    return first or second


def _full(prefix: str, name: str) -> str:
    return prefix + name.removeprefix(prefix) if name else ""


def _clean(subdir: str) -> str:
    return posixpath.normpath("/" + subdir).lstrip("/")


def _check_commit(checksum: str) -> None:
    if not _COMMIT_PREFIX.fullmatch(checksum):
        raise RemoteError(
            f"{checksum[:100]} is no commit hash",
            "For a git repository the checksum is the commit's hash, or the beginning of it.",
        )
