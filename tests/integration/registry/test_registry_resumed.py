"""Uploads that break go on from where a real registry has them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.binaries import binaries
from servers.cutting_proxy import Cut, CuttingProxy
from servers.images import memory_image
from servers.registry import RegistryServer, RegistryServerOptions
from servers.registryclient import Client

from imagewright.http.retry import RetryPolicy

pytestmark = pytest.mark.registry

SIZE = 24 << 20
IMAGE = memory_image([random.Random(3).randbytes(SIZE)])


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryServer]:
    with RegistryServer(RegistryServerOptions(tmp_path, binaries() / "registry")) as server:
        yield server


@pytest.mark.parametrize("reset", [False, True])
def test_an_upload_goes_on_where_it_broke(registry: RegistryServer, reset: bool) -> None:
    cut = Cut(upwards=True, count=SIZE * 3 // 4, reset=reset)
    sent = []
    for _ in range(3):  # all is sent again where the registry doesn't know yet, when it is asked, what it has
        shutil.rmtree(registry.options.state / "content", ignore_errors=True)
        # The first connection asks which protocol is spoken, and whoever comes meanwhile asks too: one that carries
        # little never gets so far as to be cut. The layer's is the fourth at latest, and has four tries.
        with CuttingProxy(("127.0.0.1", registry.port), 1, rate=0, planned=[None, *[cut] * 3]) as proxy:
            Client(retry=RetryPolicy()).push(IMAGE, f"{proxy.host}/app:1")
        assert proxy.cuts >= 1
        sent.append(proxy.sent)
    if not reset:  # a reset throws away what the registry had not read: how much it has then is chance
        assert min(sent) < SIZE * 5 // 4 + (1 << 20), "a quarter was sent again at most, and not all of it"
    client = Client()
    found = client.resolve(f"{registry.host}/app:1")
    with client.puller.open_blob(found, found.manifest.layers[0]) as stream:
        assert sum(len(data) for data in iter(lambda: stream.read(1 << 20), b"")) == SIZE


def test_requests_of_a_pull_and_of_a_push_grow_by_a_number_for_each_layer(registry: RegistryServer) -> None:
    counts = []
    for layers in (1, 5):
        image = memory_image([f"{layers}-{number}".encode() * 1000 for number in range(layers)])
        client = Client()
        name = f"{registry.host}/counted:{layers}"
        client.push(image, name)
        first = requests(registry)
        client.push(image, name)
        again = requests(registry)
        found = client.resolve(name)
        for layer in found.manifest.layers:
            with client.puller.open_blob(found, layer) as stream:
                while stream.read(1 << 20):
                    pass
        counts.append((first, again - first, requests(registry) - again))
        registry.log.write_bytes(b"")
    pushed, unchanged, pulled = (after - before for before, after in zip(*counts, strict=True))
    assert pushed == 4 * 3, "whether it is there, where it is to go, and the blob"
    assert unchanged == 4 * 1, "whether it is there"
    assert pulled == 4 * 1
    assert counts[0][1] <= 3, "a layer, the configuration and the manifest"


def requests(registry: RegistryServer) -> int:
    return sum(
        '"GET /v2/counted' in line
        or '"HEAD /v2/counted' in line
        or '"POST /v2/counted' in line
        or '"PUT /v2/counted' in line
        for line in registry.log.read_text().splitlines()
    )
