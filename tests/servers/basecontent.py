"""The base images as a registry's storage, pushed once and shared: a registry that has them starts in a moment.

I/O: makes the images where the cache lacks them, pushes them to a registry of its own; links the outcome into folders.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cluster.binaries import binaries, locked
from cluster.images import publish
from cluster.places import cache_root
from servers.registry import RegistryServer, RegistryServerOptions


def base_content() -> Path:
    """A registry's storage with the base images, in the cache: only read from then on."""
    folder = cache_root() / "peers" / "registry"
    with locked(cache_root() / "peers" / "registry.lock"):
        marker = folder / "published"
        before = marker.read_text() if marker.exists() else ""
        with RegistryServer(RegistryServerOptions(folder, binaries() / "registry")) as server:
            marker.write_text(publish(server.host, before))
    return folder / "content"


def registry_with_base_images(folder: Path) -> RegistryServer:
    """A registry of one's own whose storage begins as hard links to the shared one: it never writes into a file
    again.
    """
    shutil.copytree(base_content(), folder / "content", copy_function=os.link)
    return RegistryServer(RegistryServerOptions(folder, binaries() / "registry"))
