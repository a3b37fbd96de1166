"""Where a git repository is and as whom it is asked for.

Reads the mounted Secret's files. Called by the rest of git's modules and by ``cli.request``. A login never
becomes part of an address, so it can't reach an argument, a log or an error by that way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from imagewright.context.mountedsecret import read_secret
from imagewright.contract.sources import GitSource
from imagewright.errors import Reason, SourceError, UsageError

_REF = re.compile(r"[A-Za-z0-9_][^\s~^:?*\[\\\x00-\x1f\x7f]*")
_SCP = re.compile(r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^:-].*)")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")
_FORGES = re.compile(r"(?:https?://)?(?:github\.com|gitlab\.com|bitbucket\.org)/")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Login:
    """User name and password, or a token sent as ``Authorization: Bearer``; all empty where there is none."""

    username: str = ""
    password: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.username or self.password or self.bearer)


@dataclass(frozen=True, slots=True)
class Address:
    """``url`` holds no login (but ssh's user name); ``origin`` is ``scheme://host[:port]``, "" for ssh."""

    url: str
    origin: str

    @classmethod
    def parse(cls, text: str, git_means: str = "https") -> tuple[Address, Login]:
        """The address and the login that was written in it. ``git://`` means ``git_means``, as kaniko's users write it.

        Raises:
            SourceError: reason ``UsageInvalid``.
        """
        if "://" not in text and _SCP.fullmatch(text) and not _UNPRINTABLE.search(text):
            return cls(text, ""), Login()
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
            return cls(urlunsplit((scheme, netloc, parts.path, "", "")), ""), Login()
        netloc = parts.netloc.rpartition("@")[2]
        login = Login(unquote(parts.username or ""), unquote(parts.password or ""))
        return cls(
            urlunsplit((scheme, netloc, quote(parts.path, safe="/%~+@:"), "", "")), f"{scheme}://{netloc}"
        ), login

    def submodule(self, text: str) -> Address:
        """A submodule's address as ``.gitmodules`` has it: relative to this one, or of its own.

        Raises:
            SourceError: reason ``PathNotAllowed`` for anything but https (or this very host's http).
        """
        if text.startswith(("./", "../")):
            if not self.origin:
                raise _submodule(text, "it is relative, and the repository comes over ssh")
            text = urljoin(self.url.rstrip("/") + "/", text).rstrip("/")
        address, login = Address.parse(text)
        if login:
            raise _submodule(address.url, "its address holds a login")
        if not address.origin.startswith("https://") and address.origin != self.origin:
            raise _submodule(text, "it is not reached by https")
        return address


def parse_git(text: str, rest: str, environment: Mapping[str, str]) -> GitSource | None:
    """``#ref``, ``#ref#commit`` and ``#commit`` as kaniko writes them, ``#ref:subdir`` as BuildKit does.

    A web address is a repository where it ends with ``.git``, or is on a well-known forge and doesn't end as an archive.

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
    """The mounted Secret's login, else the address's, else that of kaniko's variables.

    Raises:
        SourceError: when the Secret can't be read.
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
    if token:  # kaniko sends the token as the user name; servers that look at the name are given both
        username, password = (username, token) if username else (token, "")
    return Login(_one_line(username, "GIT_USERNAME"), _one_line(password, "GIT_PASSWORD"))


def read_git_secret(source: GitSource) -> dict[str, bytes]:
    """The keys of the mounted Secret with their values; empty without one.

    Raises:
        SourceError: reason ``GitAuthFailed``.
    """
    return read_secret(source)


def pull_method(environment: Mapping[str, str]) -> str:
    """What ``git://`` stands for: https, unless kaniko's GIT_PULL_METHOD says http.

    Raises:
        SourceError: reason ``UsageInvalid`` for any other word.
    """
    method = environment.get("GIT_PULL_METHOD") or "https"
    if method not in ("https", "http"):
        raise SourceError(
            f"GIT_PULL_METHOD={method[:40]!r} is neither https nor http",
            reason=Reason.USAGE_INVALID,
            hint="Leave it out: https is what git:// means.",
        )
    return method


def check_ref(ref: str) -> None:
    """Accept what git check-ref-format does; ``-`` first would be an option.

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
            f"{ref[:100]!r} is no name of a branch or tag",
            reason=Reason.USAGE_INVALID,
            hint="Write it as git shows it, such as main, v1.2.0 or refs/heads/main; git check-ref-format has the rules.",
        )


def is_commit(text: str) -> bool:
    """A full hash, SHA-1 or SHA-256."""
    return _COMMIT.fullmatch(text) is not None


def without_login(text: str) -> str:
    """Text without what stands before ``@`` in addresses."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def _one_line(text: str, where: str) -> str:
    """Secrets made from files end in a line break that is not of the password; one within would end git's own line."""
    text = text.rstrip("\r\n")
    if re.search(r"[\x00\r\n]", text):
        raise SourceError(
            f"the login in {where} holds a line break",
            reason=Reason.GIT_AUTH_FAILED,
            hint="User name, password and token are one line each.",
        )
    return text


def _bad_address(text: str) -> SourceError:
    return SourceError(
        f"{without_login(text)[:200]!r} is no address of a git repository",
        reason=Reason.USAGE_INVALID,
        hint="Write https://host/path.git, ssh://git@host/path.git or git@host:path.git.",
    )


def _submodule(url: str, why: str) -> SourceError:
    return SourceError(
        f"the submodule {without_login(url)[:200]!r} is not fetched: {why}",
        reason=Reason.PATH_NOT_ALLOWED,
        hint="Submodules come over https, with an address relative to the repository's or one of their own.",
    )
