"""A registry that keeps the layer cache from being used: warnings say once what was attempted, and on what."""

from __future__ import annotations

import pytest
from servers.registryclient import AMD64, Client
from servers.scripted import Answer, ScriptedServer

from imagewright.cache.entry import Entry
from imagewright.cache.layers import LayerCache
from imagewright.cache.sources import Miss, Sources
from imagewright.cache.target import Target
from imagewright.engine.caching.layercache import RepositoryStore
from imagewright.engine.registries import Registries
from imagewright.oci.descriptor import OpenBlob
from imagewright.reference import Reference
from imagewright.workers import Patience

KEY = "0" * 64
NO_LAYER: OpenBlob = lambda _: pytest.fail("the entry has no layer")  # noqa: E731


@pytest.mark.parametrize(
    ("status", "read", "stored"),
    [
        (
            403,
            "cannot read the cache {}, executing all steps: access denied (status 403)",
            "access denied (status 403)",
        ),
        (413, "ignoring an entry of the cache {}: GET failed with status 413", "HEAD failed with status 413"),
    ],
)
def test_a_registry_that_refuses_the_cache_is_named_once(status: int, read: str, stored: str) -> None:
    warnings: list[str] = []
    with ScriptedServer(lambda asked: Answer(status)) as server:
        client = Client()
        name = f"{server.host}/cache"
        registries = Registries(client.puller, client.pusher, client.transport, Patience())
        store = RepositoryStore(registries, Reference.parse(f"{name}:cache"))
        cache = LayerCache(
            Sources([store], 0, warnings.append), Target(store, warnings.append), "build", warnings.append
        )
        assert isinstance(cache.find(KEY), Miss)
        cache.keep(Entry(KEY, 0, "RUN true"), AMD64, NO_LAYER)
        cache.finish(AMD64)
        cache.close()
    assert warnings == [read.format(name), f"cannot store any more steps in the cache {name}: {stored}"]
