"""Put an image into a registry of the tests: as little of the distribution protocol as that takes.

It is not the engine's own client on purpose: a test that pulls what this pushed is not judged by itself. HTTP to the
test registry.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cluster.places import ClusterError

OCI = "application/vnd.oci.image."


@dataclass(frozen=True, slots=True)
class Layer:
    """A gzip-compressed tar: a file, or bytes for a small one."""

    content: Path | bytes
    digest: str
    size: int
    diff_id: str


@dataclass(frozen=True, slots=True)
class Image:
    layers: tuple[Layer, ...]  # base first
    config: Mapping[str, Any] = field(default_factory=dict)  # the OCI configuration's "config"
    architecture: str = "amd64"


class Registry:
    """Pushes to ``address`` (host:port) over plain HTTP."""

    def __init__(self, address: str) -> None:
        self._address = address

    def push(self, image: Image, name: str, tags: Sequence[str]) -> str:
        """Under each of ``tags``. Gives the manifest's digest.

        Raises:
            ClusterError: the registry refused something.
        """
        config = json.dumps(
            {
                "architecture": image.architecture,
                "os": "linux",
                "config": dict(image.config),
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
                "history": [{"created_by": "tests/cluster"} for _ in image.layers],
            }
        ).encode()
        for layer in image.layers:
            self._upload(name, layer.digest, layer.content, layer.size)
        self._upload(name, digest_of(config), config, len(config))
        layers = [
            {"mediaType": OCI + "layer.v1.tar+gzip", "digest": layer.digest, "size": layer.size}
            for layer in image.layers
        ]
        described = {"mediaType": OCI + "config.v1+json", "digest": digest_of(config), "size": len(config)}
        kind = OCI + "manifest.v1+json"
        manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": described, "layers": layers}).encode()
        for tag in tags:
            self._call("PUT", f"/v2/{name}/manifests/{tag}", manifest, {"Content-Type": kind})
        return digest_of(manifest)

    def _upload(self, name: str, digest: str, content: Path | bytes, size: int) -> None:
        if self._call("HEAD", f"/v2/{name}/blobs/{digest}").status == 200:
            return
        location = self._call("POST", f"/v2/{name}/blobs/uploads/", b"").headers["Location"]
        if location.startswith("http"):
            location = "/" + location.split("/", 3)[3]
        url = f"{location}{'&' if '?' in location else '?'}digest={digest}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        if isinstance(content, bytes):
            self._call("PUT", url, content, headers)
            return
        with content.open("rb") as stream:
            self._call("PUT", url, stream, headers)

    def _call(
        self, method: str, path: str, body: bytes | IO[bytes] | None = None, headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self._address, timeout=120)
        try:
            connection.request(method, path, body, dict(headers or {}))
            reply = connection.getresponse()
            text = reply.read()
        except OSError as error:
            raise ClusterError(f"{self._address}: {method} {path}: {error}") from error
        finally:
            connection.close()
        if reply.status not in (200, 201, 202) and not (method == "HEAD" and reply.status == 404):
            raise ClusterError(f"{self._address}: {method} {path}: {reply.status} {text[:300]!r}")
        return reply


def answers(address: str) -> bool:
    """Whether a registry is there."""
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def folder_layer(files: Mapping[str, Path]) -> Layer:
    """A layer of a few small programs, the same bytes whenever they are the same."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = path.stat().st_size, 0o755
            with path.open("rb") as stream:
                tar.addfile(member, stream)
    compressed = gzip.compress(raw.getvalue(), 1, mtime=0)
    return Layer(compressed, digest_of(compressed), len(compressed), digest_of(raw.getvalue()))
