"""A real registry that is killed in the middle of things, and comes back."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from servers.images import memory_image
from servers.registry import RegistryServer, RegistryServerOptions
from servers.registryclient import Client

from imagewright.http.retry import RetryPolicy
from imagewright.oci.descriptor import Descriptor
from imagewright.reference import Reference

pytestmark = pytest.mark.registry
CONTENT = random.Random(3).randbytes(20_000_000)


class Restarting:
    """Kills the registry once, and starts it again while the client waits."""

    def __init__(self, state: Path, program: Path) -> None:
        self.server = RegistryServer(RegistryServerOptions(state, program))
        self.options = RegistryServerOptions(state, program, port=self.server.port)
        self.restarts = 0
        self._lock = threading.Lock()
        self._starting: threading.Thread | None = None

    def restart(self) -> None:
        with self._lock:
            if self.restarts:
                return
            self.restarts += 1
            self.server.close()
            self._starting = threading.Thread(target=self._start)
            self._starting.start()

    def close(self) -> None:
        if self._starting is not None:
            self._starting.join()
        self.server.close()

    def _start(self) -> None:
        self.server = RegistryServer(self.options)


def test_a_push_and_a_pull_outlive_the_registry_being_killed(tmp_path: Path, programs: Path) -> None:
    image = memory_image([CONTENT, b"small"])
    client = Client(retry=RetryPolicy(6))
    registry = Restarting(tmp_path, programs / "registry")
    try:
        reference = Reference.parse(f"{registry.server.host}/restart:1")

        def progress(descriptor: Descriptor, sent: int, _: bool) -> None:
            if descriptor.size == len(CONTENT) and sent > 5_000_000:
                registry.restart()

        client.push(image, str(reference), progress=progress)
        assert registry.restarts == 1
        pulled = client.resolve(str(reference))
        assert pulled.manifest.raw == image.manifest.raw
        registry.close()
        registry.restarts = 0
        with client.puller.open_blob(pulled, pulled.manifest.layers[0]) as stream:
            registry.server = RegistryServer(registry.options)
            data = bytearray(stream.read(1_000_000))
            registry.restart()
            while more := stream.read(1_000_000):
                data += more
        assert registry.restarts == 1
        assert bytes(data) == CONTENT
    finally:
        registry.close()
