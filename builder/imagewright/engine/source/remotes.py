"""Fetches the remote sources of ADD: a file from a URL, a checkout of a git repository.

Talks to the network through ``context``, and writes below a given folder. The only logins are those that the build was
given for ADD: the secrets that BuildKit's reference names. kaniko's GIT_TOKEN and similar variables are for the build
context: a Dockerfile could send them to any host.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import field, replace
from threading import Event

from imagewright.context.download import HttpOptions, download
from imagewright.context.git.checkout import Checkout, CheckoutOptions, clone
from imagewright.context.job import Machine
from imagewright.contract import DEFAULT_SSH_ID
from imagewright.contract.sources import GitSource
from imagewright.descent import temporary_directory
from imagewright.engine.source.sshagents import SshAgents
from imagewright.errors import Reason, SourceError, UsageError
from imagewright.fs.copy import archive
from imagewright.plan.remote import GitRemote, RemoteSource, UrlSource
from imagewright.plan.steps import SshMount
from imagewright.records import dataclass
from imagewright.urls import parse_url

_FOR_CONTEXTS = frozenset({"GIT_USERNAME", "GIT_PASSWORD", "GIT_TOKEN", "GIT_PULL_METHOD", "SSH_AUTH_SOCK"})
_HEADER = re.compile(r"(basic|bearer) +(\S+)", re.IGNORECASE)
_KNOWN_HOSTS = "GIT_KNOWN_HOSTS"  # our own: a Pod has no ~/.ssh/known_hosts, and unknown host keys are never trusted
_TOKEN_USER = "x-access-token"  # noqa: S105 -- the user name that goes with a token


@dataclass(frozen=True, slots=True)
class Remotes:
    """Fetches remote sources.

    ``environment`` has proxies and trusted certificates; ``secrets`` are the build's, by id.
    """

    folder: str  # for sources of which only the time is needed
    environment: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, bytes] = field(repr=False)
    agents: SshAgents
    log: Callable[[str], None]
    stopped: Event
    _ahead: dict[GitRemote, Checkout] = field(default_factory=dict)

    def rewording(self, reword: Callable[[str], str]) -> Remotes:
        """The same; ``reword`` changes each line of the log."""
        return replace(self, log=lambda text: self.log(reword(text)))

    def file(self, source: UrlSource, folder: str) -> None:
        """Download into ``folder``, which exists, under the source's name.

        Raises:
            SourceError, UsageError: as ``context.download.download``; a secret that is not a valid login.
        """
        self._download(source, folder, HttpOptions(self.log, self._authorization, stopped=self.stopped))

    def dockerfile(self, url: str, max_bytes: int) -> bytes:
        """The Dockerfile at a URL.

        Raises:
            SourceError, UsageError: as ``file``; larger than ``max_bytes``.
        """
        options = HttpOptions(self.log, self._authorization, stopped=self.stopped, max_bytes=max_bytes)
        with temporary_directory("dockerfile-", self.folder) as folder:
            self._download(UrlSource(url, "Dockerfile"), folder, options)
            with open(os.path.join(folder, "Dockerfile"), "rb") as file:
                return file.read()

    def _download(self, source: UrlSource, folder: str, options: HttpOptions) -> None:
        self.log(f"fetching {source}")
        done = download(source.url, os.path.join(folder, source.name), source.checksum, options)
        self.log(f"{done.size} bytes, {done.digest}")

    def time_of(self, source: RemoteSource) -> int | None:
        """The time of a commit, else a file's Last-Modified, else that of the newest entry of an archive; in seconds.

        Raises:
            SourceError, UsageError: as ``file`` and ``checkout``.
        """
        with temporary_directory("time-", self.folder) as folder:
            if isinstance(source, GitRemote):
                return self.checkout(source, folder).time_s
            self.file(source, folder)
            path = os.path.join(folder, source.name)
            modified_s = int(os.stat(path).st_mtime)  # 1970 if the server sends none
            if modified_s:
                return modified_s
            with open(path, "rb", buffering=0) as file:
                return archive.newest(file)

    def fetch_ahead(self, source: GitRemote) -> None:
        """Check out a revision before the programs for it are gone; ``checkout`` then returns it.

        Raises:
            SourceError, UsageError: as ``checkout``.
        """
        if source not in self._ahead:
            folder = os.path.join(self.folder, f"fetched-{len(self._ahead)}")
            os.mkdir(folder, 0o700)
            self._ahead[source] = self.checkout(source, folder)

    def checkout(self, source: GitRemote, folder: str) -> Checkout:
        """Check out a revision below the existing ``folder``.

        Raises:
            SourceError, UsageError: as ``context.git.checkout.clone``; a secret that is not a valid login.
        """
        if source in self._ahead:
            return self._ahead[source]
        if source.keep_git_dir and source.subdir:
            self.log(f'the .git folder of "{source}" is not kept: only part of the repository is added')
        # Not as long as the checkout, which a RUN may see.
        with temporary_directory("private-", folder) as private:
            return self._clone(source, folder, self._git_login(source.url, private))

    def _clone(self, source: GitRemote, folder: str, login: str) -> Checkout:
        wanted = GitSource(
            url=source.url,
            ref=source.ref,
            commit=source.checksum if source.by_commit else "",
            subdir=source.subdir,
            submodules=source.submodules,
            credentials_dir=login,
        )
        environment = {name: value for name, value in self.environment.items() if name not in _FOR_CONTEXTS}
        with ExitStack() as stack:
            if _is_ssh(source.url):
                mount = SshMount(DEFAULT_SSH_ID, "", uid=os.geteuid(), gid=os.getegid())
                socket = stack.enter_context(self.agents.socket(mount))
                if socket is not None:
                    environment["SSH_AUTH_SOCK"] = socket
            machine = Machine(folder, environment, self.log)
            extras = CheckoutOptions(source.checksum, bool(source.keep_git_dir), source.commit_times)
            try:
                return clone(wanted, machine, extras)
            except SourceError as error:
                if error.reason is Reason.GIT_AUTH_FAILED and (not login or _is_ssh(source.url)):
                    raise SourceError(error.message, reason=error.reason, hint=_hint(source.url, error)) from error
                raise

    # --- logins

    def _authorization(self, host: str) -> str:
        """The Authorization header for a host (Dockerfile reference, "ADD", "Secrets")."""
        token = self._secret(f"HTTP_AUTH_TOKEN_{host}")
        return f"Bearer {token}" if token else self._secret(f"HTTP_AUTH_HEADER_{host}")

    def _git_login(self, url: str, folder: str) -> str:
        """Write a login, or the keys of ssh servers, as ``context.git`` reads them; the folder, ``""`` without any.

        A secret for the host takes precedence over the one for all hosts.
        """
        if _is_ssh(url):
            known_hosts = self.secrets.get(_KNOWN_HOSTS, b"").decode("utf-8", "surrogateescape")
            return _write(folder, {"known_hosts": known_hosts}) if known_hosts else ""
        server = parse_url(url)
        for suffix in dict.fromkeys((f".{server.netloc}", f".{server.host.strip('[]')}", "")):
            token = self._secret(f"GIT_AUTH_TOKEN{suffix}")
            header = self._secret(f"GIT_AUTH_HEADER{suffix}")
            if header:
                return _write(folder, _read_header(header, f"GIT_AUTH_HEADER{suffix}"))
            if token:
                return _write(folder, {"username": _TOKEN_USER, "password": token})
        return ""

    def _secret(self, name: str) -> str:
        """A one-line secret, ``""`` if it wasn't given."""
        text = self.secrets.get(name, b"").decode("utf-8", "surrogateescape").rstrip("\r\n")
        if not text.isprintable() or not text.isascii():
            raise UsageError(f'invalid secret "{name}": not a single line of ASCII characters', hint="Check its value.")
        return text


def _is_ssh(url: str) -> bool:
    return url.startswith("ssh://") or "://" not in url


def _read_header(header: str, name: str) -> Mapping[str, str]:
    """The login of an ``Authorization`` header, as the files of a mounted Secret."""
    match = _HEADER.fullmatch(header)
    if match is not None and match[1].lower() == "bearer":
        return {"bearerToken": match[2]}
    try:
        pair = base64.b64decode(match[2] if match else "", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        pair = ""
    username, colon, password = pair.partition(":")
    if not colon:
        raise UsageError(
            f'invalid secret "{name}": not an Authorization header',
            hint="Write basic and the base64 of user:password, or bearer and a token.",
        )
    return {"username": username, "password": password}


def _write(folder: str, login: Mapping[str, str]) -> str:
    for name, text in login.items():
        with open(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    return folder


def _hint(url: str, error: SourceError) -> str:
    if not _is_ssh(url):
        host = parse_url(url).host.strip("[]")
        return f"Provide a token with --secret id=GIT_AUTH_TOKEN.{host},src=FILE (ImageBuild: spec.secrets)."
    if "host key" in error.message:
        return f"Provide the output of ssh-keyscan with --secret id={_KNOWN_HOSTS},src=FILE (ImageBuild: spec.secrets)."
    return "Provide an agent or a key with --ssh default or --ssh default=KEYFILE (ImageBuild: spec.ssh)."
