"""Addresses of git repositories, revisions and logins.

Reads the mounted Secret's files. A login is kept apart from the address, so that it can't reach an argument, a log or
an error with it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import field
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from imagewright.context.mountedsecret import read_secret
from imagewright.contract.sources import GitSource
from imagewright.errors import Reason, SourceError, UsageError
from imagewright.logins import without_login
from imagewright.records import dataclass

_REF = re.compile(r"[A-Za-z0-9_][^\s~^:?*\[\\\x00-\x1f\x7f]*")
_SCP = re.compile(r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^:-].*)")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")
_FORGES = re.compile(r"(?:https?://)?(?:github\.com|gitlab\.com|bitbucket\.org)/")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Login:
    """User name and password, or a token sent as ``Authorization: Bearer``; all empty without a login."""

    username: str = ""
    password: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.username or self.password or self.bearer)


@dataclass(frozen=True, slots=True)
class Address:
    """``url`` has no login, except ssh's user name; ``server`` is ``scheme://host[:port]``."""

    url: str
    server: str

    @property
    def origin(self) -> str:
        """The server that gets the login: ``""`` for ssh, which has keys instead."""
        return "" if self.server.startswith("ssh://") else self.server

    @classmethod
    def parse(cls, text: str, git_means: str = "https") -> tuple[Address, Login]:
        """The address, and the login that was part of it. ``git://`` stands for ``git_means``, as in kaniko.

        Raises:
            SourceError: reason ``UsageInvalid``.
        """
        scp = None if "://" in text or _UNPRINTABLE.search(text) else _SCP.fullmatch(text)
        if scp is not None:
            return cls(text, f"ssh://{scp['host'].lower()}"), Login()
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise _bad_address(text) from None
        scheme = {"git": git_means}.get(parts.scheme, parts.scheme)
        if scheme not in ("https", "http", "ssh") or not _HOST.fullmatch(host) or _UNPRINTABLE.search(text):
            raise _bad_address(text)
        if scheme == "ssh":
            user = f"{parts.username}@" if parts.username else ""
            if user.startswith("-"):
                raise _bad_address(text)
            netloc = user + parts.netloc.rpartition("@")[2]
            port = f":{parts.port}" * (parts.port not in (None, 22))
            return cls(urlunsplit((scheme, netloc, parts.path, "", "")), f"ssh://{host}{port}"), Login()
        netloc = parts.netloc.rpartition("@")[2]
        login = Login(unquote(parts.username or ""), unquote(parts.password or ""))
        return cls(
            urlunsplit((scheme, netloc, quote(parts.path, safe="/%~+@:"), "", "")), f"{scheme}://{netloc}"
        ), login

    def submodule(self, text: str) -> Address:
        """The address in ``.gitmodules``, which may be relative to this one.

        Raises:
            SourceError: reason ``PathNotAllowed`` for anything but https and the same server.
        """
        if text.startswith(("./", "../")):
            text = self._relative(text)
        address, login = Address.parse(text)
        if login:
            raise _submodule(address.url, "its address contains a login")
        if not address.server.startswith("https://") and address.server != self.server:
            raise _submodule(text, "its address is neither https nor on the server of the repository")
        return address

    def _relative(self, text: str) -> str:
        """As git resolves it: below the repository's own path (git-submodule, "add")."""
        scheme, separator, rest = self.url.rpartition("://")
        server, mark, path = rest.partition("/" if scheme else ":")
        joined = posixpath.normpath(posixpath.join(path, text))
        if joined.startswith(".."):
            raise _submodule(text, f"it leads out of {server}")
        return scheme + separator + server + mark + joined


def parse_git(text: str, rest: str, environment: Mapping[str, str]) -> GitSource | None:
    """``#ref``, ``#ref#commit`` and ``#commit`` as kaniko writes them, ``#ref:subdir`` as BuildKit does.

    A web address is a repository where it ends with ``.git``, or is on a well-known forge and doesn't end as an
    archive.

    Raises:
        UsageError: the commit is abbreviated.
    """
    url, _, fragment = text.partition("#")
    if url.startswith(("https://", "http://")) and not (
        url.endswith(".git") or (_FORGES.match(url) is not None and not url.endswith(_ARCHIVES))
    ):
        return None
    ref, _, commit = fragment.partition("#")
    ref, _, subdir = ref.partition(":")
    if ":" in commit:
        commit, _, subdir = commit.partition(":")
    if is_commit(ref) and not commit:
        ref, commit = "", ref
    if commit and not is_commit(commit):
        raise UsageError(f'"{commit}" is not a full commit hash', hint="Write #ref#commit with all 40 digits.")
    return GitSource(url=url, ref=ref, commit=commit, subdir=subdir)


def find_login(source: GitSource, written: Login, environment: Mapping[str, str]) -> Login:
    """The mounted Secret's login, else the address's, else the one in kaniko's variables.

    Raises:
        SourceError: the Secret can't be read.
    """
    if source.credentials_dir:
        secret = read_git_secret(source)
        values = (
            secret.get(key, b"").decode("utf-8", "surrogateescape") for key in ("username", "password", "bearerToken")
        )
        return Login(*(_one_line(text, source.credentials_dir) for text in values))
    if written:
        return written
    username, password = environment.get("GIT_USERNAME", ""), environment.get("GIT_PASSWORD", "")
    token = environment.get("GIT_TOKEN", "")
    if token:  # kaniko sends it as the user name; with GIT_USERNAME, it is the password
        username, password = (username, token) if username else (token, "")
    return Login(_one_line(username, "GIT_USERNAME"), _one_line(password, "GIT_PASSWORD"))


def read_git_secret(source: GitSource) -> dict[str, bytes]:
    """The keys of the mounted Secret and their values; empty without a Secret.

    Raises:
        SourceError: reason ``GitAuthFailed``.
    """
    return read_secret(source)


def pull_method(environment: Mapping[str, str]) -> str:
    """The scheme that ``git://`` stands for: https, unless kaniko's GIT_PULL_METHOD is http.

    Raises:
        SourceError: reason ``UsageInvalid`` for any other value.
    """
    method = environment.get("GIT_PULL_METHOD") or "https"
    if method not in ("https", "http"):
        raise SourceError(
            f'invalid GIT_PULL_METHOD value "{method[:40]}"',
            reason=Reason.USAGE_INVALID,
            hint="Use https or http, or unset it for https.",
        )
    return method


def check_ref(ref: str) -> None:
    """Accept what git check-ref-format accepts, but for a leading ``-``, which would be an option.

    Raises:
        SourceError: reason ``UsageInvalid``.
    """
    parts = ref.split("/")
    bad = (
        not _REF.fullmatch(ref)
        or ".." in ref
        or "@{" in ref
        or ref.endswith(".")
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    )
    if ref and bad:
        raise SourceError(
            f'invalid branch or tag "{ref[:100]}"',
            reason=Reason.USAGE_INVALID,
            hint="Write it as git shows it, such as main, v1.2.0 or refs/heads/main.",
        )


def is_commit(text: str) -> bool:
    """Whether this is a full hash, SHA-1 or SHA-256."""
    return _COMMIT.fullmatch(text) is not None


def _one_line(text: str, where: str) -> str:
    """Without the trailing line break that Secrets made from files have; others would end a line of git's protocol."""
    text = text.rstrip("\r\n")
    if re.search(r"[\x00\r\n]", text):
        raise SourceError(
            f"invalid login in {where}: it contains a line break",
            reason=Reason.GIT_AUTH_FAILED,
            hint="Write user name, password and token on one line each.",
        )
    return text


def _bad_address(text: str) -> SourceError:
    return SourceError(
        f'invalid git repository address "{without_login(text)[:200]}"',
        reason=Reason.USAGE_INVALID,
        hint="Write https://host/path.git, ssh://git@host/path.git or git@host:path.git.",
    )


def _submodule(url: str, why: str) -> SourceError:
    return SourceError(
        f'cannot fetch the submodule "{without_login(url)[:200]}": {why}',
        reason=Reason.PATH_NOT_ALLOWED,
        hint="Use an https address for the submodule, or one relative to the repository's.",
    )
