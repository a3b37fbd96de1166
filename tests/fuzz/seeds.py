"""Valid inputs that fuzzing begins with, for formats that chance doesn't lead to. No I/O."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma

import zstandard
from archives.tars import Item, directory, hardlink, make_tar, symlink

from imagewright.contract.request import BuildRequest, ContextSettings
from imagewright.contract.result import BuildResult
from imagewright.contract.sources import DirectorySource

_DIGEST = "sha256:" + "a" * 64
_LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": _DIGEST, "size": 1}
_MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {**_LAYER, "mediaType": "application/vnd.oci.image.config.v1+json"},
    "layers": [_LAYER],
    "annotations": {"a": "b"},
}
_INDEX = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.index.v1+json",
    "manifests": [{**_LAYER, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}],
}
_CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["A=b"], "Cmd": ["x"], "Labels": {"a": "b"}, "ExposedPorts": {"1/tcp": {}}, "OnBuild": ["RUN x"]},
    "rootfs": {"type": "layers", "diff_ids": [_DIGEST]},
    "history": [{"created_by": "x", "empty_layer": True}],
}
_TARS = [
    make_tar(Item("f", data=b"x"), directory("d"), symlink("l", "f"), hardlink("h", "f")),
    make_tar(Item("n" * 120, data=b"x" * 600, pax={"SCHILY.xattr.user.a": "b", "path": "p", "mtime": "1.5"})),
    make_tar(Item("f", data=b"x" * 512, pax={"GNU.sparse.map": "0,512", "GNU.sparse.size": "1024"})),
    make_tar(Item("f", data=b"1\n0\n1\n" + bytes(507), pax={"GNU.sparse.major": "1", "GNU.sparse.realsize": "9"})),
]
_REQUEST = BuildRequest(context=ContextSettings(source=DirectorySource(path="/c")))

SEEDS: dict[str, list[bytes]] = {
    "tar": _TARS,
    "compressed": [
        compress(_TARS[0])
        for compress in (gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress)
    ],
    "documents": [json.dumps(value).encode() for value in (_MANIFEST, _INDEX, _CONFIG)],
    "contract": [
        base64.b64decode(_REQUEST.encode()),
        BuildResult(digest=_DIGEST).to_json().encode(),
        b'[s 1/2] FROM x\n  x\n[s 2/2] RUN y\n{"imagewrightResult":{}}\n',
    ],
    "words": [
        *(b"1h30m0.5s", b"8000-8010/tcp", b"u=rwX,go=rX", b"docker.io/a/b:1@" + _DIGEST.encode(), b"linux/arm/v7"),
        *(b"https://github.com/a/b.git#main:sub", b"git@h.test:a/b.git?ref=x", b"git://h.test/a#refs/heads/b"),
    ],
    "challenge": [b'Bearer realm="https://a.test/token",service="a", Basic realm=b'],
    "terminal": [b"a\rb\r\n\x1b[31mred\x1b[0m\n\x1b]0;title\x07x"],
}
