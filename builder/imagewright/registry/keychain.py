"""The keychain: the login for a repository, from docker's config.json, its credential helpers, and clouds.

Reads one file, and asks helpers and clouds when a registry requires a login. Hosts are compared whole: a login is never
sent to a host whose name merely begins with that of its own.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import threading
from collections.abc import Mapping
from typing import Any, Self, TypeGuard

from imagewright.errors import Reason, RegistryError
from imagewright.reference import DOCKER_HUB, DOCKER_HUB_ALIASES
from imagewright.registry.auth import Login
from imagewright.registry.clouds import CloudKeychain
from imagewright.registry.helpers import ask_helper

_MAX_FILE_BYTES = 4 * 1024 * 1024
_HUB_KEY = "https://index.docker.io/v1/"  # docker's key for Docker Hub, for helpers too
_ENCODE = "encode it with printf '%s' instead of echo."


class Keychain:
    """Logins by key: a host, or a host and the beginning of a path.

    Args:
        logins: ``auths`` of config.json.
        helpers: credential helpers by host (``credHelpers``).
        store: the helper for all other hosts (``credsStore``), ``""`` for none.
        fallback: asked if config.json has no login.
    """

    def __init__(
        self,
        logins: Mapping[str, Login],
        helpers: Mapping[str, str] | None = None,
        store: str = "",
        fallback: CloudKeychain | None = None,
    ) -> None:
        self._logins = {_canonical(key): login for key, login in logins.items()}
        self._helpers = {_canonical(key): helper for key, helper in (helpers or {}).items()}
        self._store = store
        self._fallback = fallback or CloudKeychain({}, ())
        self._environment = fallback.environment if fallback is not None else os.environ
        self._asked: dict[tuple[str, str], Login | None] = {}
        self._errors: dict[str, str] = {}
        self._flaws: dict[str, str] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(cls, directory: str | None, fallback: CloudKeychain | None = None) -> Self:
        """Read ``config.json`` in ``directory`` (None: DOCKER_CONFIG, then ~/.docker). No file means no logins.

        Raises:
            RegistryError: reason ``RegistryAuthFailed``, if the file is not a valid config.json.
        """
        folder = directory or os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
        path = os.path.join(folder, "config.json")
        try:
            with open(path, "rb") as file:
                raw = file.read(_MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return cls({}, fallback=fallback)
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
        return cls(logins, helpers, str(value.get("credsStore") or ""), fallback)

    def find(self, registry: str, repository: str) -> Login | None:
        """The login for a repository, None for anonymous.

        In this order: the key with the longest path that the repository begins with, the host alone last; the host's
        credential helper; the store; the cloud or the CI system.

        Raises:
            RegistryError: reason ``RegistryAuthFailed``: the host's helper fails.
        """
        login = self._find(registry, repository)
        if login is not None and login.flaw:
            self._flaws[registry] = login.flaw
        return login

    def _find(self, registry: str, repository: str) -> Login | None:
        path = f"{registry}/{repository}"
        while path:
            if _is_login(login := self._logins.get(path)):
                return login
            path = path.rpartition("/")[0]
        if registry in self._helpers and (login := self._ask(self._helpers[registry], registry)):
            return login
        return self._ask_store(registry) or self._fallback.find(registry)

    def errors(self, registry: str) -> tuple[str, ...]:
        """Why there is no login, or one that no registry can accept: sentences for the hint of a refusal."""
        own, flaw = self._errors.get(registry), self._flaws.get(registry)
        return (
            *([f"In the login for {registry} {flaw}: {_ENCODE}"] if flaw else []),
            *([f"({own})"] if own else []),
            *self._fallback.errors(registry),
        )

    def _ask_store(self, registry: str) -> Login | None:
        """The store is asked for all hosts, even without logins: its failure only matters if the registry refuses."""
        if not self._store:
            return None
        try:
            return self._ask(self._store, registry)
        except RegistryError as error:
            self._errors[registry] = error.message
            return None

    def _ask(self, helper: str, registry: str) -> Login | None:
        with self._lock:
            key = (helper, registry)
            if key not in self._asked:
                server = _HUB_KEY if registry == DOCKER_HUB else registry
                self._asked[key] = ask_helper(helper, server, self._environment)
            return self._asked[key]


def _is_login(login: Login | None) -> TypeGuard[Login]:
    """An entry without a login only records that docker logged in, and that a helper has the login."""
    return login is not None and bool(login.username or login.identity_token or login.registry_token)


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


def _canonical(key: str) -> str:
    """URLs like ``https://index.docker.io/v1/`` as host[/path], with one name for Docker Hub."""
    key = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    host, slash, rest = key.partition("/")
    if rest in ("v1", "v2"):
        slash = rest = ""
    host = DOCKER_HUB if host.lower() in DOCKER_HUB_ALIASES else host
    return host + slash + rest


_FORM = "Use docker's config.json with an auths object, as kubectl create secret docker-registry makes it."


def _bad(path: str, why: str, hint: str = _FORM) -> RegistryError:
    return RegistryError(f'cannot read "{path}": {why}', reason=Reason.REGISTRY_AUTH_FAILED, hint=hint)
