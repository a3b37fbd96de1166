"""The registry client that a request asks for: how registries are reached, and where logins come from.

Reads docker's config.json. Called by ``engine.build``, ``engine.warming`` and ``imagewright pin``.
"""

from __future__ import annotations

from collections.abc import Mapping

from imagewright.contract.request import BuildRequest
from imagewright.registry.client import RegistryClient, RegistryOptions
from imagewright.registry.clouds import CloudKeychain
from imagewright.registry.keychain import Keychain


def open_client(
    request: BuildRequest, environment: Mapping[str, str], docker_config_dir: str | None = None
) -> RegistryClient:
    """A client; ``docker_config_dir`` holds the config.json, None: that of the request, else DOCKER_CONFIG, else ~/.docker.

    Raises:
        RegistryError: reason ``RegistryAuthFailed``, when the file is no config.json.
    """
    access = request.registry
    options = RegistryOptions(
        access.hosts,
        access.insecure,
        access.insecure_pull,
        access.skip_tls_verify,
        access.skip_tls_verify_pull,
        pull_retries=access.pull_retries,
        push_retries=access.push_retries,
    )
    sources = CloudKeychain(environment, access.credential_helpers)
    return RegistryClient(options, Keychain.load(docker_config_dir or access.docker_config_dir or None, sources))
