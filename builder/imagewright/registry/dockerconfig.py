"""docker's config.json: the logins in it, and the credential helpers that it names.

Reads one file, and reads it again later: whoever renews a login replaces or rewrites it while a build runs.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from imagewright.errors import Reason, RegistryError
from imagewright.records import dataclass
from imagewright.reference import DOCKER_HUB, DOCKER_HUB_ALIASES
from imagewright.registry.auth import Login

_MAX_FILE_BYTES = 4 * 1024 * 1024
_READS = 5  # of a file that is being rewritten in place
_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """What the file says. Keys may be URLs.

    Args:
        logins: by key: a host, or a host and the beginning of a path (``auths``).
        helpers: credential helpers by host (``credHelpers``).
        store: the helper for all other hosts (``credsStore``), ``""`` for none.
    """

    logins: Mapping[str, Login] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""

    def login(self, registry: str, repository: str) -> Login | None:
        """The login whose key is the longest prefix of a repository's name, down to the host alone.

        An entry without a login only records that docker logged in, and that a helper has the login.
        """
        logins = {_canonical(key): login for key, login in self.logins.items()}
        path = f"{registry}/{repository}"
        while path:
            login = logins.get(path)
            if login is not None and (login.username or login.identity_token or login.registry_token):
                return login
            path = path.rpartition("/")[0]
        return None

    def helper(self, registry: str) -> str:
        """The credential helper for a host alone, ``""`` if it has none."""
        return next((helper for key, helper in self.helpers.items() if _canonical(key) == registry), "")


class ConfigFile:
    """``config.json`` in ``directory`` (None: DOCKER_CONFIG, then ~/.docker)."""

    def __init__(self, directory: str | None) -> None:
        self._folder = directory or os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
        self._path = os.path.join(self._folder, "config.json")
        self._identity = _identity(self._folder)
        self._device: int | None = None

    def hold(self, mounted: Callable[[str], bool]) -> None:
        """Read it again only where something is mounted: elsewhere an image that is built may have one of its own."""
        if self._identity is not None and mounted(self._folder):
            self._device = self._identity[0]
        else:
            self._identity = None

    def read(self) -> DockerConfig:
        """Its content. No file means no logins.

        Raises:
            RegistryError: reason ``RegistryAuthFailed``, if it is not a valid config.json.
        """
        try:
            return self._read()
        except (FileNotFoundError, NotADirectoryError):
            return DockerConfig()

    def read_again(self) -> DockerConfig | None:
        """Its present content, None if there is none to be read.

        A file that is invalid or missing is read several times within a second: it may be about to be replaced. It is
        not read from another folder than before, or from outside of its mount: in the ``root`` sandbox the image that
        is built may have one there.

        Raises:
            RegistryError: reason ``RegistryAuthFailed``, if it stays invalid.
        """
        if self._identity is None or _identity(self._folder) != self._identity:
            return None
        for _ in range(_READS - 1):
            try:
                return self._read()
            except (RegistryError, OSError):
                time.sleep(_PAUSE_S)
        try:
            return self._read()
        except OSError:
            return None

    def _read(self) -> DockerConfig:
        path = self._path
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):  # a FIFO would never end
                    raise _bad(path, "not a regular file")
                if self._device not in (None, found.st_dev):
                    raise _bad(path, "it leads out of the mount")
                raw = file.read(_MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            hint = "Check its mode and owner." if isinstance(error, PermissionError) else _FORM
            raise _bad(path, str(error.strerror), hint) from error
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            raise _bad(path, "it is not JSON") from None
        if not isinstance(value, dict):
            raise _bad(path, "it is not a JSON object")
        auths, helpers = value.get("auths") or {}, value.get("credHelpers") or {}
        if not isinstance(auths, dict) or not isinstance(helpers, dict):
            raise _bad(path, "auths or credHelpers is not an object")
        logins = {key: _login(path, key, entry) for key, entry in auths.items()}
        return DockerConfig(logins, helpers, str(value.get("credsStore") or ""))


def _canonical(key: str) -> str:
    """URLs like ``https://index.docker.io/v1/`` as host[/path], with one name for Docker Hub."""
    key = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    host, slash, rest = key.partition("/")
    if rest in ("v1", "v2"):
        slash = rest = ""
    host = DOCKER_HUB if host.lower() in DOCKER_HUB_ALIASES else host
    return host + slash + rest


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _login(path: str, key: str, entry: Any) -> Login:
    if not isinstance(entry, dict):
        raise _bad(path, f'the entry "{key}" is not an object')
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    encoded = entry.get("auth")
    if encoded and not (username and password):
        try:
            text = base64.b64decode(str(encoded), validate=False).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise _bad(path, f'the auth of "{key}" is not base64 of user:password') from None
        username, colon, password = text.partition(":")
        if not colon:
            raise _bad(path, f'the auth of "{key}" does not contain user:password')
        password = password.rstrip("\0")
    return Login(username, password, str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or ""))


_FORM = "Use docker's config.json with an auths object, as kubectl create secret docker-registry makes it."


def _bad(path: str, why: str, hint: str = _FORM) -> RegistryError:
    return RegistryError(f'cannot read "{path}": {why}', reason=Reason.REGISTRY_AUTH_FAILED, hint=hint)
