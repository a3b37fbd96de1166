"""Where things are in the executor's container, below ``/kaniko``, the engine's own folder: so that no path of an image
being built in the ``root`` sandbox is hidden by a mount.

No I/O. Read by ``request``, ``volumes`` and ``manifests``.
"""

from __future__ import annotations

WORK_DIR = "/kaniko/work"
DOCKER_CONFIG_DIR = "/kaniko/.docker"
SOURCE_CREDENTIALS_DIR = "/kaniko/credentials/source"
CONTEXT_DIR = "/kaniko/context"
REGISTRY_CA_DIR = "/kaniko/certificates/installation"
BUILD_CA_DIR = "/kaniko/certificates/build"
CLIENT_CERTIFICATES_DIR = "/kaniko/certificates/client"
SECRETS_DIR = "/kaniko/secrets"
SSH_KEYS_DIR = "/kaniko/ssh"
CACHE_DIR = "/kaniko/cache"


def registry_ca(index: int) -> str:
    """The name of the file in BUILD_CA_DIR with the certificates of ``spec.registries[index]``."""
    return f"registry-{index}.crt"


OUTPUT_CA = "output.crt"
