"""A context that is an OCI artifact: its one layer, out of a registry.

Talks to a registry through the client it is given and writes one file. Called by ``engine.build`` for ``context``.
"""

from __future__ import annotations

from imagewright.errors import Reason, RegistryError, SourceError
from imagewright.reference import Reference
from imagewright.registry.client import RegistryClient

_CHUNK_BYTES = 1 << 20


def pull_artifact(client: RegistryClient, reference: str, path: str) -> None:
    """Write the layer of an artifact (manifest.md, "Guidelines for Artifact Usage") into the new file ``path``, verified.

    Raises:
        RegistryError, UsageError: what the registry answers; a name that is none.
        SourceError: it isn't there, or has not exactly one layer.
    """
    name = Reference.parse(reference)
    manifest = client.find(name, pulling=True)
    if manifest is None:
        raise SourceError(
            f"the context {name.familiar()} is not in its registry",
            reason=Reason.FILE_NOT_FOUND,
            hint="Check the name and the tag.",
        )
    if len(manifest.layers) != 1:
        raise SourceError(
            f"the context {name.familiar()} has {len(manifest.layers)} layers, and an artifact that holds a context has one",
            hint="Push it with flux push artifact, or oras push REFERENCE context.tar.gz.",
        )
    try:
        with client.open_found(name, manifest.layers[0], pulling=True) as stream, open(path, "wb") as file:
            while data := stream.read(_CHUNK_BYTES):
                file.write(data)
    except RegistryError as error:
        raise SourceError(
            f"the context {name.familiar()} can't be pulled: {error.message}", reason=error.reason, hint=error.hint
        ) from error
