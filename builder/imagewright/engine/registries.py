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
    options = RegistryOptions(
        request.registries,
        request.insecure,
        request.insecure_pull,
        request.skip_tls_verify,
        request.skip_tls_verify_pull,
        pull_retries=request.pull_retries,
        push_retries=request.push_retries,
    )
    sources = CloudKeychain(environment, request.credential_helpers)
    return RegistryClient(options, Keychain.load(docker_config_dir or request.docker_config_dir or None, sources))
