"""The registry client of a request.

Reads docker's config.json.
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
    """A client. ``docker_config_dir`` has the config.json; the default is the request's, DOCKER_CONFIG, or ~/.docker.

    Raises:
        RegistryError: reason ``RegistryAuthFailed``, the file is not a valid config.json.
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
