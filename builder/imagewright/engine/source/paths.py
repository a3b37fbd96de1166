"""The files and folders of this machine that a request names, for a build in the container's own ``/``.

Looks whether they exist.
"""

from __future__ import annotations

import os

from imagewright.contract.request import BuildRequest
from imagewright.contract.sources import ContextSource, Source


def paths_to_keep(request: BuildRequest) -> tuple[str, ...]:
    """Files and folders of this machine that a sandbox in the container's own / must not remove."""
    paths = [source.path for source in sources_of(request) if hasattr(source, "path")]
    paths += [secret.file for secret in request.run.secrets]
    return tuple(path for path in (*paths, *paths_to_read(request)) if path and os.path.exists(path))


def paths_to_read(request: BuildRequest) -> tuple[str, ...]:
    """Those that are read until the end, so they cannot be moved."""
    paths = [
        path for each in request.registry.hosts for path in (each.ca_file, each.client_cert_file, each.client_key_file)
    ]
    paths += [path for ssh in request.run.ssh for path in ssh.paths]
    return tuple(path for path in (*paths, request.run.cache_dir) if path)


def sources_of(request: BuildRequest) -> tuple[Source | ContextSource, ...]:
    """The contexts that a request names, the main one first."""
    return request.context.source, *(context.source for context in request.context.named)
