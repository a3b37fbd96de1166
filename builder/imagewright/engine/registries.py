"""Access to registries as a request wants it: how they are reached, and where logins come from.

Reads docker's config.json.
"""

from __future__ import annotations

from collections.abc import Mapping

from imagewright.contract.request import BuildRequest
from imagewright.records import dataclass
from imagewright.registry.clouds import CloudKeychain
from imagewright.registry.endpoints import RegistryOptions
from imagewright.registry.keychain import Keychain
from imagewright.registry.pull import Puller
from imagewright.registry.push import Pusher
from imagewright.registry.transport import Transport
from imagewright.workers import Patience


@dataclass(frozen=True, slots=True)
class Registries:
    """Pulls and pushes that share connections, logins, and the patience with servers when the build ends."""

    puller: Puller
    pusher: Pusher
    transport: Transport
    patience: Patience


def open_registries(
    request: BuildRequest, environment: Mapping[str, str], docker_config_dir: str | None = None
) -> Registries:
    """``docker_config_dir`` has the config.json; the default is the request's, DOCKER_CONFIG, or ~/.docker.

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
    clouds = CloudKeychain(environment, access.credential_helpers)
    keychain = Keychain.load(docker_config_dir or access.docker_config_dir or None, clouds)
    transport = Transport(options, keychain)
    patience = Patience()
    return Registries(Puller(transport), Pusher(transport, patience), transport, patience)
