"""The keychain: the login for a repository, from docker's config.json, its credential helpers, and clouds.

Asks helpers and clouds when a registry requires a login, and reads and asks again when it refuses one. Hosts are
compared whole: a login is never sent to a host whose name merely begins with that of its own.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Self

from imagewright.errors import RegistryError
from imagewright.reference import DOCKER_HUB
from imagewright.registry.answers import Answers, Ask, Locks
from imagewright.registry.auth import Login
from imagewright.registry.clouds import CloudKeychain
from imagewright.registry.dockerconfig import ConfigFile, DockerConfig
from imagewright.registry.helpers import ask_helper

_HUB_KEY = "https://index.docker.io/v1/"  # docker's key for Docker Hub, for helpers too
_HELD = (
    "helpers and clouds are not asked again once an image has replaced the files of this container: see docs/sandbox.md"
)
_ENCODE = "encode it with printf '%s' instead of echo."


class Keychain:
    """Logins for repositories. Safe to use from several threads.

    Args:
        config: the logins, and the helpers to ask.
        fallback: asked if ``config`` has no login.
        file: where ``config`` was read, and may be read again.
    """

    def __init__(
        self,
        config: DockerConfig,
        fallback: CloudKeychain | None = None,
        file: ConfigFile | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._file = file
        self._fallback = fallback or CloudKeychain({}, ())
        self._environment = fallback.environment if fallback is not None else os.environ
        self._answers = Answers[tuple[str, str]](clock)  # by helper and host
        self._errors: dict[str, str] = {}
        self._flaws: dict[str, str] = {}
        self._renewing = Locks[str]()  # by registry
        self._held = False

    @classmethod
    def load(cls, directory: str | None, fallback: CloudKeychain | None = None) -> Self:
        """Read ``config.json`` in ``directory`` (None: DOCKER_CONFIG, then ~/.docker). No file means no logins.

        Raises:
            RegistryError: reason ``RegistryAuthFailed``, if the file is not a valid config.json.
        """
        file = ConfigFile(directory)
        return cls(file.read(), fallback, file)

    def find(self, registry: str, repository: str) -> Login | None:
        """The login for a repository, None for anonymous.

        In this order: the key with the longest path that the repository begins with, the host alone last; the host's
        credential helper; the store; the cloud or the CI system.

        Raises:
            RegistryError: reason ``RegistryAuthFailed``: the host's helper fails.
        """
        config = self._config
        login = config.login(registry, repository)
        if login is None and (helper := config.helper(registry)):
            login = self._answers.find((helper, registry), self._ask(helper, registry))
        login = login or self._ask_store(config.store, registry) or self._fallback.find(registry)
        self._flaws[registry] = login.flaw if login is not None else ""
        return login

    def hold(self, places: Iterable[tuple[str, str]], mounted: Callable[[str], bool]) -> None:
        """Find the logins for all of these registries and repositories now, and start no program from now on.

        Logins are renewed from ``config.json`` alone after this, if it is ``mounted``.
        """
        for registry, repository in places:
            with contextlib.suppress(RegistryError):  # kept, and raised where the login is needed
                self.find(registry, repository)
        self._held = True
        self._answers.hold()
        self._fallback.hold()
        if self._file is not None:
            self._file.hold(mounted)

    def renew(self, registry: str, repository: str, refused: Login | None) -> Login | None:
        """Another login than the one that a registry has refused, None if there is none.

        The file is read again, and helpers and clouds are asked again, unless another thread's request was refused
        before and has led to a new login.
        """
        with self._renewing.of(registry):
            login = self.find(registry, repository)
            if login == refused:
                self._errors.pop(registry, None)
                self._read_again(registry)
                self._ask_again(registry)
                login = self.find(registry, repository)
            return login if login != refused else None

    def errors(self, registry: str) -> tuple[str, ...]:
        """Why there is no login, or one that no registry can accept: sentences for the hint of a refusal."""
        own, flaw = self._errors.get(registry), self._flaws.get(registry)
        return (
            *([f"In the login for {registry} {flaw}: {_ENCODE}"] if flaw else []),
            *([f"({own})"] if own else []),
            *self._fallback.errors(registry),
        )

    def _read_again(self, registry: str) -> None:
        try:
            config = self._file.read_again() if self._file is not None else None
        except RegistryError as error:
            self._errors[registry] = error.message
        else:
            self._config = config or self._config

    def _ask_again(self, registry: str) -> None:
        helpers = [name for name in (self._config.helper(registry), self._config.store) if name]
        if self._held:
            if helpers or self._fallback.find(registry) is not None:
                self._errors.setdefault(registry, _HELD)
            return
        for helper in helpers:
            try:
                self._answers.renew((helper, registry), self._ask(helper, registry))
            except RegistryError as error:
                self._errors[registry] = error.message
        self._fallback.renew(registry)

    def _ask_store(self, store: str, registry: str) -> Login | None:
        """The store is asked for all hosts, even without logins: its failure only matters if the registry refuses."""
        if not store:
            return None
        try:
            return self._answers.find((store, registry), self._ask(store, registry))
        except RegistryError as error:
            self._errors[registry] = error.message
            return None

    def _ask(self, helper: str, registry: str) -> Ask:
        server = _HUB_KEY if registry == DOCKER_HUB else registry
        return partial(ask_helper, helper, server, self._environment)
