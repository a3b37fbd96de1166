"""Logins out of docker's config.json: which user name and password a repository is asked with.

Reads one file. Called by the engine; the client asks it per repository. Hosts are matched whole: a login is never sent
to a host whose name only begins like the one it is for.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from imagewright.errors import Reason, RegistryError, UnsupportedError
from imagewright.reference import DOCKER_HUB, DOCKER_HUB_ALIASES

_MAX_FILE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Login:
    """``identity_token`` is an OAuth2 refresh token that stands for a password; then ``username`` may be empty."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Login({self.username!r}, …)"  # a password never reaches a log by accident


class Credentials:
    """Logins by key: a host, or a host with the beginning of a path."""

    def __init__(self, logins: Mapping[str, Login], helpers: Mapping[str, str] | None = None, store: str = "") -> None:
        self._logins = {_canonical(key): login for key, login in logins.items()}
        self._helpers = {_canonical(key): helper for key, helper in (helpers or {}).items()}
        self.store = store  # the helper that config.json leaves all other logins to; "" for none

    @classmethod
    def load(cls, directory: str | None) -> Self:
        """Read ``config.json`` in ``directory`` (None: DOCKER_CONFIG, then ~/.docker). No file means no logins.

        Raises:
            RegistryError: reason ``RegistryAuthFailed``, when the file is no config.json.
        """
        folder = directory or os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
        path = os.path.join(folder, "config.json")
        try:
            with open(path, "rb") as file:
                raw = file.read(_MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return cls({})
        except OSError as error:
            raise _bad(path, str(error.strerror)) from error
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
        return cls(logins, helpers, str(value.get("credsStore") or ""))

    def find(self, registry: str, repository: str) -> Login | None:
        """The login for a repository: the key with the longest path that is its beginning, None for anonymous.

        Raises:
            UnsupportedError: where only a credential helper knows it.
        """
        candidates = [f"{registry}/{repository}"]
        while "/" in candidates[-1]:
            candidates.append(candidates[-1].rpartition("/")[0])
        for key in candidates:
            login = self._logins.get(key)
            if login is not None and (login.username or login.identity_token or login.registry_token):
                return login
        helper = self._helpers.get(registry) or (self.store if registry in self._logins else "")
        if helper:
            raise UnsupportedError(
                f"the login for {registry} is kept by the credential helper {helper!r}, which is not supported yet",
                hint="Put the login itself into config.json: kubectl create secret docker-registry does.",
            )
        return None


def _login(path: str, key: str, entry: Any) -> Login:
    if not isinstance(entry, dict):
        raise _bad(path, f"the entry for {key!r} is not an object")
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    encoded = entry.get("auth")
    if encoded and not (username and password):
        try:
            text = base64.b64decode(str(encoded), validate=False).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise _bad(path, f"the auth of {key!r} is not base64 of user:password") from None
        username, colon, password = text.partition(":")
        if not colon:
            raise _bad(path, f"the auth of {key!r} holds no user:password")
        password = password.rstrip("\0")
    return Login(username, password, str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or ""))


def _canonical(key: str) -> str:
    """``https://index.docker.io/v1/`` and its like as host[/path]; Docker Hub's names are one."""
    key = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    host, slash, rest = key.partition("/")
    if rest in ("v1", "v2"):
        slash = rest = ""
    host = DOCKER_HUB if host.lower() in DOCKER_HUB_ALIASES else host
    return host + slash + rest


def _bad(path: str, why: str) -> RegistryError:
    return RegistryError(
        f"{path} can't be read: {why}",
        reason=Reason.REGISTRY_AUTH_FAILED,
        hint="It must be docker's config.json with an auths object; kubectl create secret docker-registry makes one.",
    )
