"""Parts of blobs, and registries that send others, or none."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator

import pytest
from servers.registryclient import AMD64
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.digest import Digest
from imagewright.errors import RegistryError
from imagewright.http.retry import RetryPolicy
from imagewright.oci.config import ImageConfig
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import Manifest
from imagewright.oci.mediatypes import ImageFormat
from imagewright.reference import Reference
from imagewright.registry.dockerconfig import DockerConfig
from imagewright.registry.endpoints import RegistryOptions
from imagewright.registry.keychain import Keychain
from imagewright.registry.pull import Puller, RemoteImage
from imagewright.registry.transport import Transport

BLOB = bytes(range(100)) * 10
LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(BLOB), len(BLOB))


def read(answer: Callable[[Asked], Answer], offset: int = 100, length: int = 50) -> tuple[bytes, list[Asked]]:
    """The part that a registry sends, and what it was asked."""
    with ScriptedServer(lambda asked: answer(asked) if "/blobs/" in asked.path else Answer()) as server:
        transport = Transport(RegistryOptions((), retry=RetryPolicy(4, 0)), Keychain(DockerConfig({})))
        reference = Reference.parse(f"{server.host}/app:1")
        config = ImageConfig.scratch(AMD64)
        manifest = Manifest.build(ImageFormat.OCI, Descriptor.of("a", config.dump()), [LAYER])
        image = RemoteImage(reference, manifest, config, tuple(transport.endpoints.for_pull(reference)))
        try:
            return Puller(transport).read_range(image, LAYER, offset, length), server.asked
        finally:
            assert sum("/blobs/" in asked.path for asked in server.asked) == 1, "it is not asked again"


def part(
    content_range: str, body: bytes = BLOB[100:150], status: int = 206, **headers: str
) -> Callable[[Asked], Answer]:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: Answer(status, {"Content-Range": content_range, **more}, body)


@pytest.mark.parametrize("total", [str(len(BLOB)), "*"])
def test_a_part_of_a_blob(total: str) -> None:
    data, asked = read(part(f"bytes 100-149/{total}"))
    assert data == BLOB[100:150]
    assert [each.headers["range"] for each in asked if "/blobs/" in each.path] == ["bytes=100-149"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: Answer(200, {}, BLOB),
        lambda _: Answer(200, {}, BLOB[:50]),
        lambda _: Answer(206, {}, BLOB[100:150]),
        part("bytes 100-149/1000", gzip.compress(bytes(1 << 24)), content_encoding="gzip"),
        part("bytes 100-149/1000", b"no gzip", content_encoding="gzip"),
        lambda _: Answer(416, {"Content-Range": "bytes */1000"}),
        lambda _: Answer(404),
        lambda _: Answer(503),
        part("bytes 0-49/1000"),
        part("bytes 100-149/2000"),
        part("bytes 100-148/1000", BLOB[100:149]),
        part("bytes 100-149/1000", BLOB[100:149]),
        part("bytes 100-149/1000", BLOB[100:151]),
        part("bytes 100-149/1000", BLOB[100:151] * 100_000),
        lambda _: Answer(206, {"Content-Range": "bytes 100-149/1000"}, BLOB[100:120], length=50),
        part("multipart/byteranges"),
        part("x" * 5000),
    ],
)
def test_another_part_is_none(answer: Callable[[Asked], Answer]) -> None:
    with pytest.raises(RegistryError):
        read(answer)


def test_a_whole_blob_is_not_read() -> None:
    sent = []

    def pieces() -> Iterator[bytes]:
        for _ in range(1024):
            sent.append(1 << 16)
            yield bytes(1 << 16)

    with pytest.raises(RegistryError, match="status 200"):
        read(lambda _: Answer(200, {"Content-Length": str(1 << 26)}, stream=pieces()), length=1 << 26)
    assert sum(sent) < 1 << 25
