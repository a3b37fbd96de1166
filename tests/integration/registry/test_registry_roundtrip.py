"""What the client pushes to a real registry it pulls again, byte for byte."""

from __future__ import annotations

import hashlib
import json
import random
import re
import socket
import threading
import urllib.request
from pathlib import Path

import pytest
from servers.images import memory_image
from servers.registry import RegistryServer
from servers.registryclient import AMD64, Client

from imagewright.contract.request import RegistrySettings
from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason, RegistryError
from imagewright.oci.manifest import dump_document
from imagewright.oci.mediatypes import DOCKER_INDEX, OCI_INDEX, OCI_MANIFEST, ImageFormat
from imagewright.oci.platform import Platform
from imagewright.reference import Reference
from imagewright.registry.auth import Login

pytestmark = pytest.mark.registry


def put(registry: RegistryServer, repository: str, key: str, raw: bytes, media_type: str) -> None:
    url = f"http://{registry.host}/v2/{repository}/manifests/{key}"
    request = urllib.request.Request(url, raw, {"Content-Type": media_type}, method="PUT")
    with urllib.request.urlopen(request):
        pass


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_an_image_comes_back_as_it_was_pushed(registry: RegistryServer, image_format: ImageFormat) -> None:
    big = random.Random(1).randbytes(3_000_000)
    image = memory_image([b"one", big, b"", b"one"], image_format)
    name = f"{registry.host}/team/roundtrip-{image_format.value}:1.0"
    Client().push(image, name)
    other = Client()
    pulled = other.resolve(name)
    assert pulled.manifest.raw == image.manifest.raw
    assert pulled.config.dump() == image.config
    assert [other.layer(pulled, layer) for layer in pulled.manifest.layers] == [b"one", big, b"", b"one"]


def test_a_pinned_image_is_found_by_its_digest(registry: RegistryServer) -> None:
    image = memory_image([b"pinned"])
    Client().push(image, f"{registry.host}/pinned:latest")
    pinned = Reference.parse(f"{registry.host}/pinned@{image.manifest.digest}")
    assert Client().puller.resolve(pinned, AMD64).manifest.raw == image.manifest.raw


def test_nothing_is_sent_that_is_there_already(registry: RegistryServer) -> None:
    image = memory_image([b"sent once", b"sent once too"])
    name = f"{registry.host}/once:1"
    Client().push(image, name)
    first = list(image.opened)
    Client().push(image, name, f"{registry.host}/once:2")
    assert sorted(first, key=str) == sorted((layer.digest for layer in image.manifest.layers), key=str)
    assert image.opened == first
    assert Client().resolve(f"{registry.host}/once:2").manifest.raw == image.manifest.raw


def test_many_destinations_take_one_upload(registry: RegistryServer) -> None:
    image = memory_image([b"for everyone"])
    names = [f"{registry.host}/{name}" for name in ("many/a:1", "many/b:1", "many/a:2", "many/c:1")]
    Client().push(image, *names)
    assert image.opened == [image.manifest.layers[0].digest]
    for name in names:
        pulled = Client().resolve(name)
        assert Client().layer(pulled, pulled.manifest.layers[0]) == b"for everyone"


def test_layers_of_a_base_are_mounted(registry: RegistryServer) -> None:
    base = memory_image([b"the base's layer"])
    Client().push(base, f"{registry.host}/mount/base:1")
    derived = memory_image([b"the base's layer", b"mine"])
    origin = Reference.parse(f"{registry.host}/mount/base:1")
    Client().push(derived, f"{registry.host}/mount/app:1", mount={base.manifest.layers[0].digest: origin})
    assert derived.opened == [derived.manifest.layers[1].digest]


def test_a_mount_from_a_repository_without_the_layer_is_an_upload(registry: RegistryServer) -> None:
    image = memory_image([b"not where it was said to be"])
    origin = Reference.parse(f"{registry.host}/no/such:1")
    Client().push(image, f"{registry.host}/mount/miss:1", mount={image.manifest.layers[0].digest: origin})
    assert image.opened == [image.manifest.layers[0].digest]


@pytest.mark.parametrize("index_type", [OCI_INDEX, DOCKER_INDEX])
def test_an_index_is_resolved_by_platform_and_variant(registry: RegistryServer, index_type: str) -> None:
    repository = f"multi-{'oci' if index_type == OCI_INDEX else 'docker'}"
    images = {
        p: memory_image([p.encode()], platform=p)
        for p in ("linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64")
    }
    entries = []
    for platform, image in images.items():
        Client().push(image, f"{registry.host}/{repository}:{platform.replace('/', '-')}")
        entries.append(image.manifest.descriptor.to_json() | {"platform": Platform.parse(platform).to_json()})
    unknown = {"os": "unknown", "architecture": "unknown"}
    entries.insert(0, images["linux/amd64"].manifest.descriptor.to_json() | {"platform": unknown})
    index = dump_document({"schemaVersion": 2, "mediaType": index_type, "manifests": entries})
    put(registry, repository, "all", index, index_type)
    reference = Reference.parse(f"{registry.host}/{repository}:all")
    for wanted, expected in (
        ("linux/amd64", "linux/amd64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/arm64/v8", "linux/arm64"),
    ):
        assert Client().puller.resolve(reference, Platform.parse(wanted)).manifest.raw == images[expected].manifest.raw
    with pytest.raises(RegistryError, match="no image for linux/s390x") as caught:
        Client().puller.resolve(reference, Platform.parse("linux/s390x"))
    assert caught.value.reason is Reason.BASE_IMAGE_PULL_FAILED
    assert caught.value.hint


def test_what_is_not_there_is_named(registry: RegistryServer) -> None:
    with pytest.raises(RegistryError, match=r"no/such:9: not found in") as caught:
        Client().resolve(f"{registry.host}/no/such:9")
    assert (caught.value.reason, caught.value.status) == (Reason.BASE_IMAGE_PULL_FAILED, 404)
    assert caught.value.hint


def test_several_threads_pull_through_one_client(registry: RegistryServer) -> None:
    layers = [random.Random(n).randbytes(200_000) for n in range(8)]
    image = memory_image(layers)
    Client().push(image, f"{registry.host}/threads:1")
    shared = Client()
    pulled = shared.resolve(f"{registry.host}/threads:1")
    found: dict[int, bytes] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: shared.layer(pulled, pulled.manifest.layers[n])}))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(8)] == layers


def test_docker_hub_names_are_served_by_an_endpoint(registry: RegistryServer) -> None:
    hub = Client(RegistrySettings(host="docker.io", endpoint=f"{registry.host}/hub", insecure=True))
    image = memory_image([b"as if from the hub"])
    hub.push(image, "debian:trixie", "user/app")
    assert hub.resolve("debian:trixie").manifest.raw == image.manifest.raw
    direct = Client().resolve(f"{registry.host}/hub/library/debian:trixie")
    assert direct.manifest.raw == image.manifest.raw
    assert Client().resolve(f"{registry.host}/hub/user/app").manifest.raw == image.manifest.raw


def test_a_mirror_is_asked_first_and_the_registry_after_it(registry: RegistryServer) -> None:
    image, other = memory_image([b"mirrored"]), memory_image([b"only at home"])
    Client().push(image, f"{registry.host}/mirror/team/app:1")
    Client().push(other, f"{registry.host}/home/team/other:1")
    settings = RegistrySettings(
        host="registry.test",
        endpoint=f"{registry.host}/home",
        mirrors=("127.0.0.1:1", f"{registry.host}/mirror"),  # nobody listens at the first
        insecure=True,
    )
    assert Client(settings).resolve("registry.test/team/app:1").manifest.raw == image.manifest.raw
    pulled = Client(settings).resolve("registry.test/team/other:1")
    assert Client(settings).layer(pulled, pulled.manifest.layers[0]) == b"only at home"


def test_pushing_may_be_asked_for_beforehand(registry: RegistryServer) -> None:
    Client().pusher.check_push(Reference.parse(f"{registry.host}/early:1"))
    log = registry.log.read_text()
    assert re.search(r'"DELETE /v2/early/blobs/uploads/\S+ HTTP/1.1" 204', log), (
        "the upload that was begun is cancelled"
    )


def test_a_registry_that_cannot_be_reached_is_said_to_be_pushed_to() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{nobody.getsockname()[1]}"
        said = rf"^cannot push to {host}/early:1: cannot reach {host}: .*refused"
        with pytest.raises(RegistryError, match=said) as caught:
            Client().pusher.check_push(Reference.parse(f"{host}/early:1"))
    assert caught.value.reason is Reason.REGISTRY_UNAVAILABLE
    assert caught.value.hint


LOGIN = {"username": "builder", "password": "p\u00e4ss:word"}


def test_a_private_registry_with_a_certificate_of_its_own(private_registry: RegistryServer) -> None:
    trusted = RegistrySettings(host=private_registry.host, ca_file=str(private_registry.ca_file))
    image = memory_image([b"behind a login"])
    name = f"{private_registry.host}/secret/app:1"
    authorized = Client(trusted, logins={f"https://{private_registry.host}": Login(**LOGIN)})
    authorized.pusher.check_push(Reference.parse(name))
    authorized.push(image, name)
    assert authorized.resolve(name).manifest.raw == image.manifest.raw
    with pytest.raises(RegistryError) as caught:
        Client(trusted).resolve(name)
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert caught.value.hint
    wrong = Client(trusted, logins={private_registry.host: Login("builder", "wrong")})
    with pytest.raises(RegistryError) as caught:
        wrong.pusher.check_push(Reference.parse(name))
    assert (caught.value.reason, caught.value.status) == (Reason.REGISTRY_AUTH_FAILED, 401)
    assert "wrong" not in caught.value.render(), "no password in a message"


def test_an_unknown_certificate_is_refused_unless_told(private_registry: RegistryServer) -> None:
    logins = {private_registry.host: Login(**LOGIN)}
    reference = Reference.parse(f"{private_registry.host}/secret/none:1")
    with pytest.raises(RegistryError, match="certificate") as caught:
        Client(logins=logins).pusher.check_push(reference)
    assert caught.value.hint
    Client(RegistrySettings(host=private_registry.host, skip_tls_verify=True), logins=logins).pusher.check_push(
        reference
    )


def test_a_damaged_blob_is_found_out(registry: RegistryServer) -> None:
    image = memory_image([b"sound content"])
    name = Reference.parse(f"{registry.host}/damaged:1")
    Client().push(image, str(name))
    digest = hashlib.sha256(b"sound content").hexdigest()
    data = Path(registry.options.state, f"content/docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data")
    data.write_bytes(b"other content")
    using = Client()
    pulled = using.puller.resolve(name, AMD64)
    with pytest.raises(ImagewrightError, match="digest") as caught:
        using.layer(pulled, pulled.manifest.layers[0])
    assert caught.value.reason is Reason.REGISTRY_PROTOCOL_ERROR
    data.unlink()


def test_a_manifest_that_is_something_else_is_refused(registry: RegistryServer) -> None:
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(Digest.of(b"{}")), "size": 2}
    artifact = memory_image([b"x"])
    artifact.blobs[Digest.of(b"{}")] = b"{}"
    Client().push(artifact, f"{registry.host}/artifact:1")
    url = f"http://{registry.host}/v2/artifact/blobs/uploads/"
    with urllib.request.urlopen(urllib.request.Request(url, b"", method="POST")) as answer:
        location = answer.headers["Location"]
    upload = urllib.request.Request(
        f"{location}&digest={Digest.of(b'{}')}", b"{}", {"Content-Type": "application/octet-stream"}, method="PUT"
    )
    with urllib.request.urlopen(upload):
        pass
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}).encode()
    put(registry, "artifact", "2", raw, OCI_MANIFEST)
    with pytest.raises(RegistryError) as caught:
        Client().resolve(f"{registry.host}/artifact:2")
    assert caught.value.reason is Reason.REGISTRY_PROTOCOL_ERROR
