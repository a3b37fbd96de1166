"""Blobs that are uploaded before their image is complete: the push sends what is left, and only that."""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest
from imagebuilds.waiting import eventually
from servers.images import MemoryImage, memory_image
from servers.registry import RegistryServer
from servers.registryclient import Client
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.digest import Digest
from imagewright.errors import Reason, RegistryError
from imagewright.oci.descriptor import Descriptor
from imagewright.reference import Reference
from imagewright.registry.push import PushImage

pytestmark = pytest.mark.registry


class Build:
    """An image whose layers are known one by one."""

    def __init__(self, image: MemoryImage, *names: str, trusted_s: float = 600.0) -> None:
        self.image = image
        self.names = [Reference.parse(name) for name in names]
        self.client = Client()
        self.log: list[str] = []
        self.early = self.client.pusher.begin(self.names, self.log.append, trusted_s)

    def __enter__(self) -> Build:
        return self

    def __exit__(self, *_: object) -> None:
        self.early.close()

    def send(self, layer: Descriptor, besides: str = "") -> None:
        self.early.send(layer, partial(self.image.open, layer), lambda *_: None, besides=besides)

    def has(self, digest: Digest, destination: Reference) -> bool:
        found = self.early.found(digest, destination)
        return found is not None and found.there

    def push(self) -> None:
        image = PushImage(self.image.manifest, self.image.config, early=self.early)
        self.client.pusher.push(image, self.names, self.image, lambda *_: None)

    def pulled(self, name: str) -> list[bytes]:
        client = Client()
        image = client.resolve(name)
        return [client.layer(image, layer) for layer in image.manifest.layers]


def put(registry: RegistryServer, repository: str) -> int:
    """How many blobs were uploaded to a repository."""
    return registry.log.read_text().count(f'"PUT /v2/{repository}/blobs/uploads/')


def test_the_push_sends_what_is_left(registry: RegistryServer) -> None:
    image = memory_image([b"early one", b"early two", b"late"])
    name = f"{registry.host}/early/rest:1"
    with Build(image, name) as build:
        for layer in image.manifest.layers[:2]:
            build.send(layer)
            build.send(layer)  # known already
        build.push()
        assert build.pulled(name) == [b"early one", b"early two", b"late"]
    assert Counter(image.opened) == Counter(layer.digest for layer in image.manifest.layers)
    assert put(registry, "early/rest") == 4  # with the configuration


def test_nothing_is_published_before_the_push(registry: RegistryServer) -> None:
    image = memory_image([b"of a build that fails"])
    name = f"{registry.host}/early/failed:1"
    with Build(image, name) as build:
        build.send(image.manifest.layers[0])
        assert build.has(image.manifest.layers[0].digest, build.names[0])
    assert put(registry, "early/failed") == 1
    with pytest.raises(RegistryError, match="not found"):
        Client().resolve(name)


def test_each_registry_gets_one_upload(registry: RegistryServer) -> None:
    """The first repository of each; others of the same registry mount from it in the end."""
    image = memory_image([b"for several registries"])
    names = [f"{registry.host}/early/{name}:1" for name in ("first", "second")]
    (layer,) = image.manifest.layers
    with ScriptedServer(Refusing()) as other, Build(image, *names, f"{other.host}/app:1") as build:
        build.send(layer)
        assert build.has(layer.digest, build.names[0])
        assert not build.has(layer.digest, build.names[1])
        assert build.has(layer.digest, build.names[2])
        build.push()
        assert build.pulled(names[1]) == [b"for several registries"]
        assert sum(line.startswith("PUT /v2/app/blobs/") for line in other.log) == 2  # with the configuration
    assert (put(registry, "early/first"), put(registry, "early/second")) == (2, 0)
    assert Counter(image.opened) == {layer.digest: 2}


def test_a_blob_is_not_sent_to_a_registry_that_gets_it_otherwise(registry: RegistryServer) -> None:
    image = memory_image([b"also in the layer cache"])
    (layer,) = image.manifest.layers
    with Build(image, f"{registry.host}/early/besides:1") as build:
        build.send(layer, besides=registry.host)
        assert not build.has(layer.digest, build.names[0])
        assert image.opened == []
        build.push()
    assert image.opened == [layer.digest]


def test_a_base_layer_is_mounted_at_the_beginning(registry: RegistryServer) -> None:
    base = memory_image([b"the layer of a base"])
    Client().push(base, f"{registry.host}/early/base:1")
    (layer,) = base.manifest.layers
    with Build(base, f"{registry.host}/early/mounted:1") as build:
        build.early.look(layer, Reference.parse(f"{registry.host}/early/base:1"))
        assert build.has(layer.digest, build.names[0])
        assert not build.early.lacks(layer.digest)
        build.push()
    assert base.opened == [layer.digest]  # for the base itself
    assert put(registry, "early/mounted") == 1


def test_what_is_lacking_is_said_and_not_looked_for_again(registry: RegistryServer) -> None:
    image = memory_image([b"nobody has this layer"])
    (layer,) = image.manifest.layers
    with Build(image, f"{registry.host}/early/lacking:1") as build:
        assert not build.early.lacks(layer.digest)  # not asked yet
        build.early.look(layer, None)
        assert build.early.lacks(layer.digest)
        build.send(layer)
        build.push()
    assert image.opened == [layer.digest]
    assert registry.log.read_text().count(f'"HEAD /v2/early/lacking/blobs/{layer.digest}') == 1


def test_a_blob_that_was_collected_is_sent_again(registry: RegistryServer) -> None:
    """A registry may remove what no manifest names, if the build takes long."""
    image = memory_image([b"collected"])
    (layer,) = image.manifest.layers
    name = f"{registry.host}/early/collected:1"
    with Build(image, name, trusted_s=0.0) as build:
        build.send(layer)
        build.early.lacks(layer.digest)  # waits
        url = f"http://{registry.host}/v2/early/collected/blobs/{layer.digest}"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE")).close()
        build.push()
        assert build.pulled(name) == [b"collected"]
    assert image.opened == [layer.digest] * 2


class Refusing:
    """A registry that stores what it is sent, but answers the first ``count`` uploads with ``status``."""

    def __init__(self, status: int = 0, count: int = 0) -> None:
        self.status, self.count = status, count
        self.stored: set[str] = set()

    def __call__(self, asked: Asked) -> Answer:
        where, _, query = asked.path.partition("?")
        if asked.method == "POST":
            return Answer(202, {"Location": f"{where}1"})
        if asked.method == "PUT" and "/blobs/" in where:
            if self.count:
                self.count -= 1
                return Answer(self.status, body=b'{"errors": [{"code": "DENIED", "message": "not today"}]}')
            self.stored.add(query.removeprefix("digest=").replace("%3A", ":"))
            return Answer(201)
        if asked.method == "PUT":
            return Answer(201)
        return Answer(200 if where.rpartition("/")[2] in self.stored else 404)


@pytest.mark.parametrize("trusted_s", [600.0, 0.0])
def test_the_push_sends_what_was_only_looked_for(registry: RegistryServer, trusted_s: float) -> None:
    """It asks once more if that was long ago."""
    image = memory_image([f"looked for only, {trusted_s}".encode()])
    (layer,) = image.manifest.layers
    repository = f"early/looked{int(trusted_s)}"
    with Build(image, f"{registry.host}/{repository}:1", trusted_s=trusted_s) as build:
        build.early.look(layer, None)
        build.push()
    assert image.opened == [layer.digest]
    asked = registry.log.read_text().count(f'"HEAD /v2/{repository}/blobs/{layer.digest}')
    assert asked == (1 if trusted_s else 2)


@pytest.mark.parametrize("status", [403, 413, 500, 507])
def test_what_could_not_be_uploaded_is_tried_again_by_the_push(status: int) -> None:
    image = memory_image([b"refused once", b"not sent early after that"])
    first, second = image.manifest.layers
    retried = status == 500  # five attempts of the first upload
    with ScriptedServer(Refusing(status, 5 if retried else 1)) as server, Build(image, f"{server.host}/app:1") as build:
        build.send(first)
        assert not build.has(first.digest, build.names[0])
        build.send(second)
        assert not build.has(second.digest, build.names[0])
        assert second.digest not in image.opened
        assert len(build.log) == 1
        assert f"uploads to {server.host} are left to the push: " in build.log[0]
        build.push()
        assert server.log[-1] == "PUT /v2/app/manifests/1"


@pytest.mark.parametrize("status", [401, 403, 413, 429, 500])
def test_a_lasting_failure_is_that_of_a_push_without_early_uploads(status: int) -> None:
    errors: list[tuple[Reason, str, str]] = []
    with ScriptedServer(Refusing(status, 1000)) as server:
        for early in (True, False):
            image = memory_image([b"never accepted"])
            with Build(image, f"{server.host}/app:1") as build:
                if early:
                    build.send(image.manifest.layers[0])
                with pytest.raises(RegistryError) as caught:
                    build.push()
            words = re.sub("sha256:[0-9a-f]{64}", "BLOB", caught.value.message)  # any blob may be the first to fail
            errors.append((caught.value.reason, words, caught.value.hint))
    assert errors[0] == errors[1]
    assert not any("/manifests/" in line for line in server.log)


class Crowd:
    """A registry that counts the uploads that it gets at once. It ends none before there are three."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self._three = threading.Event()
        self._accepts = Refusing()

    def __call__(self, asked: Asked) -> Answer:
        if asked.method != "PUT":
            return self._accepts(asked)
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            if self.most == 3:
                self._three.set()
        self._three.wait(20)
        time.sleep(0.03)  # in which further ones may come
        with self._lock:
            self._now -= 1
        return self._accepts(asked)


@pytest.mark.parametrize("early", [0, 2, 5, 9])
def test_no_more_uploads_run_at_once_than_without(early: int) -> None:
    image = memory_image([f"layer {n}".encode() for n in range(9)])
    crowd = Crowd()
    with ScriptedServer(crowd) as server, Build(image, f"{server.host}/app:1") as build:
        for layer in image.manifest.layers[9 - early :]:
            build.send(layer)
        build.push()
    assert crowd.most == 3
    assert len(image.opened) == 9


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """Set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def test_the_end_of_a_build_does_not_wait_for_a_silent_registry(stuck: threading.Event) -> None:
    """Nor is anything begun, or reported, after it."""
    image = memory_image([b"into the void", b"two", b"three", b"four", b"five", b"too late"])
    accepts = Refusing()

    def silent(asked: Asked) -> Answer:
        if asked.method == "PUT":
            stuck.wait()
        return accepts(asked)

    with ScriptedServer(silent) as server:
        try:
            with Build(image, f"{server.host}/app:1") as build:
                for layer in image.manifest.layers[:5]:
                    build.send(layer)
                eventually(lambda: sum(line.startswith("PUT") for line in server.log) == 3, "three uploads")
            asked = len(server.asked)
            build.send(image.manifest.layers[5])
            build.early.look(image.manifest.config, None)
            assert not build.early.knows(image.manifest.config.digest)
            assert build.log == []
            assert len(server.asked) == asked
        finally:
            stuck.set()
        eventually(no_upload_runs, "the end of the threads")
        assert sum(line.startswith("PUT") for line in server.log) == 3
        assert build.log == []


def no_upload_runs() -> bool:
    return not any(thread.name == "upload" for thread in threading.enumerate())


def test_nothing_is_begun_after_the_end() -> None:
    image = memory_image([b"too late"])
    with Build(image, "127.0.0.1:1/app:1") as build:
        pass
    build.send(image.manifest.layers[0])
    build.early.look(image.manifest.config, None)
    assert no_upload_runs()
    assert build.log == []


def test_an_upload_ends_in_the_middle_of_a_blob(stuck: threading.Event) -> None:
    image = memory_image([bytes(3 << 20)])
    (layer,) = image.manifest.layers
    reads = 0

    class Slow:
        def read(self, size: int = -1, /) -> bytes:
            nonlocal reads
            reads += 1
            if reads == 2:
                reading.set()
                stuck.wait()
            return bytes(1 << 18)

    class Opened:
        def __enter__(self) -> Slow:
            return Slow()

        def __exit__(self, *_: object) -> None:
            closed.set()

    reading, closed = threading.Event(), threading.Event()
    with ScriptedServer(Refusing()) as server:
        build = Build(image, f"{server.host}/app:1")
        build.early.send(layer, Opened, lambda *_: None)  # type: ignore[arg-type]
        assert reading.wait(20)
        threading.Timer(0.2, stuck.set).start()
        build.early.close()
        assert closed.wait(20)
        assert reads == 2
        assert build.log == []
