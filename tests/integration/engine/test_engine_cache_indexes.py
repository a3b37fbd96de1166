"""Indexes of layers in the cache: with them a step that only writes needs no layer of those below it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from engineruns.smallplaces import SMALL, Place, Run
from servers.registry import RegistryServer

from imagewright.cache.artifact import ARTIFACT_TYPE, EMPTY_CONFIG, index_artifact, index_key
from imagewright.digest import Digest
from imagewright.engine.caching.layercache import LayoutStore
from imagewright.fs.layer.index import IndexWriter
from imagewright.fs.tar.entries import DIRECTORY, REGULAR, SYMLINK, Entry
from imagewright.oci.descriptor import OpenBlob

pytestmark = [pytest.mark.root, pytest.mark.registry]

AFTER_RUN = "FROM busybox\nRUN mkdir /app && echo tool >/app/tool\nCOPY --chown=nobody a /app/data/\n"
ONLY_COPY = "FROM busybox\nCOPY --chown=nobody a /usr/share/app/\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The layers of the last image, and how the build went."""

    layers: tuple[str, ...]
    run: Run

    @property
    def log(self) -> str:
        return self.run.log

    @property
    def pulled(self) -> set[str]:
        return set(self.run.pulled)

    def asked_for(self, repository: str, method: str = "") -> list[str]:
        return [one for one in self.run.requests if one.startswith(method) and f"/{repository}/" in one]


class Builds:
    """Builds each in a fresh place: nothing but the cache and the registry is kept."""

    def __init__(self, registry: RegistryServer, folder: Path) -> None:
        self._registry = registry
        self._place = Place(registry, folder)
        self.folder = folder
        self.cache = f"{folder.name.lower()}/cache"
        self.name = f"{registry.host}/{folder.name.lower()}/app"
        self.layout = folder / "layout"
        self.places = {
            "registry": ("--cache", f"--cache-repo={registry.host}/{self.cache}"),
            "layout": ("--cache", f"--cache-repo=oci:{self.layout}"),
            "cache-dir": (f"--cache-dir={folder}/dir",),
        }

    def build(self, dockerfile: str, content: str, *flags: str, small: bool = False) -> Outcome:
        for name in ("context", "work", "image"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self._place.context.mkdir()
        (self._place.context / "Dockerfile").write_text(dockerfile)
        (self._place.context / "a").write_text(content)
        run = self._place.run(f"{self.name}:1", *flags, prepare=SMALL if small else "")
        return Outcome(self._layers(), run)

    def _layers(self) -> tuple[str, ...]:
        manifest = json.loads(self.blob(self._place.digest.read_text()))
        return tuple(layer["digest"] for layer in manifest["layers"])

    def blob(self, digest: str) -> bytes:
        """A blob of the registry."""
        name = digest.removeprefix("sha256:")
        blobs = self._registry.options.state / "content/docker/registry/v2/blobs/sha256"
        return (blobs / name[:2] / name / "data").read_bytes()

    def good(self, dockerfile: str, content: str, *flags: str, small: bool = False) -> Outcome:
        outcome = self.build(dockerfile, content, *flags, small=small)
        assert outcome.run.code == 0, outcome.log
        return outcome


@pytest.fixture
def builds(bases: RegistryServer, tmp_path: Path) -> Builds:
    return Builds(bases, tmp_path)


@pytest.mark.parametrize(
    ("place", "dockerfile"),
    [("registry", AFTER_RUN), ("layout", AFTER_RUN), ("registry", ONLY_COPY), ("cache-dir", ONLY_COPY)],
)
def test_a_changed_file_costs_its_own_layer(builds: Builds, place: str, dockerfile: str) -> None:
    flags = builds.places[place]
    first = builds.good(dockerfile, "one", *flags)
    changed = builds.good(dockerfile, "two", *flags, small=True)
    assert changed.layers[:-1] == first.layers[:-1]
    assert not changed.pulled & set(changed.layers)
    assert changed.layers == builds.good(f'{dockerfile}RUN ["true"]\n', "two").layers, "as on disk"
    if place == "registry":
        below = len(changed.layers) - 1
        extra = [one for one in changed.asked_for(builds.cache, "GET") if "/blobs/" not in one]
        steps = dockerfile.count("\n") - 1
        assert len(extra) <= steps + below + 1, "a lookup of each step and index, and the trace of the last build"


def test_nothing_is_asked_where_all_steps_are_cached(builds: Builds) -> None:
    flags = builds.places["registry"]
    builds.good(AFTER_RUN, "one", *flags)
    again = builds.good(AFTER_RUN, "one", *flags)
    assert len(again.asked_for(builds.cache)) == 2


def test_it_is_not_made_again_where_it_is(builds: Builds) -> None:
    """The base is unpacked for another RUN: one request says that its index is there."""
    flags = builds.places["registry"]
    builds.good(AFTER_RUN, "one", *flags)
    other = builds.good(AFTER_RUN.replace("tool", "other"), "one", *flags)
    puts = [one for one in other.asked_for(builds.cache, "PUT") if "/manifests/" in one]
    assert len(puts) == 4, "two steps, the index of the other RUN, the trace: the COPY has the layer that it had"


def test_nothing_is_written_where_nothing_may_be(builds: Builds) -> None:
    main = builds.layout
    builds.good(AFTER_RUN, "one", *builds.places["layout"])
    for manifest in artifacts(main):
        (main / "blobs/sha256" / manifest).unlink()
    before = sorted(main.rglob("*"))
    builds.good(AFTER_RUN, "two", "--cache", f"--cache-from=oci:{main}")
    builds.good(AFTER_RUN, "three", *builds.places["layout"], "--no-push-cache")
    assert sorted(main.rglob("*")) == before
    builds.good(AFTER_RUN, "two", "--cache", f"--cache-from=oci:{main}", f"--cache-to=oci:{builds.folder}/own")
    assert artifacts(builds.folder / "own")


def artifacts(layout: Path) -> list[str]:
    """The digests of the manifests of indexes in a layout."""
    index = json.loads((layout / "index.json").read_text())
    named = [entry["digest"].removeprefix("sha256:") for entry in index["manifests"]]
    return [one for one in named if (layout / "blobs/sha256" / one).exists() and is_artifact(layout, one)]


def is_artifact(layout: Path, digest: str) -> bool:
    manifest = json.loads((layout / "blobs/sha256" / digest).read_text())
    return bool(manifest.get("artifactType") == ARTIFACT_TYPE)


def opened(index: bytes, folder: Path) -> OpenBlob:
    file = folder / "index"
    file.write_bytes(index)
    return lambda _: file.open("rb")


def poisoned(*entries: Entry) -> IndexWriter:
    writer = IndexWriter()
    for entry in entries:
        writer.add(entry)
    return writer


POISON = {
    "outside": [Entry(b"../../etc/passwd", REGULAR, 0o644, 0, 0, 0, 0)],
    "larger than any disk": [Entry(b"a", REGULAR, 0o644, 0, 0, 1 << 60, 0)],
    "a hard link to nothing": [Entry(b"a", b"1", 0o644, 0, 0, 0, 0, b"b")],
    "of an unknown type": [Entry(b"a", b"9", 0o644, 0, 0, 0, 0)],
    "good, then bad": [Entry(b"usr", SYMLINK, 0o777, 0, 0, 0, 0, b"x"), Entry(b"..", DIRECTORY, 0o644, 0, 0, 0, 0)],
}


@pytest.mark.parametrize("poison", POISON)
def test_an_index_that_cannot_be_is_made_of_the_layer(builds: Builds, poison: str) -> None:
    """And the wrong one is replaced, so that the next build goes without the layer again."""
    flags = builds.places["layout"]
    first = builds.good(ONLY_COPY, "one", *flags)
    store = LayoutStore(str(builds.layout))
    base = diff_id_of_base(builds)
    index = poisoned(*POISON[poison]).finish(base)
    store.put(index_key(base), index_artifact(base, index), EMPTY_CONFIG, opened(index, builds.folder))
    changed = builds.good(ONLY_COPY, "two", *flags, small=True)
    assert "ignoring the index of a layer of the cache" in changed.log
    assert first.layers[0] in changed.pulled
    assert changed.layers == builds.good(ONLY_COPY, "two").layers
    healed = builds.good(ONLY_COPY, "three", *flags, small=True)
    assert "ignoring" not in healed.log
    assert first.layers[0] not in healed.pulled


def test_a_cache_decides_what_is_above_a_copy(builds: Builds) -> None:
    """Nobody can check an index without its layer: it is trusted as a layer of the same cache is."""
    flags = builds.places["layout"]
    first = builds.good(ONLY_COPY, "one", *flags)
    store, base = LayoutStore(str(builds.layout)), diff_id_of_base(builds)
    entries = [Entry(b"usr", DIRECTORY, 0o777, 5, 6, 0, 0), Entry(b"usr/share", SYMLINK, 0o777, 0, 0, 0, 0, b"../etc")]
    writer = poisoned(*entries)
    writer.add(Entry(b"etc/passwd", REGULAR, 0o644, 0, 0, 20, 0), b"nobody:x:7:8::/:/bin")
    index = writer.finish(base)
    store.put(index_key(base), index_artifact(base, index), EMPTY_CONFIG, opened(index, builds.folder))
    changed = builds.good(ONLY_COPY, "two", *flags)
    assert changed.layers[0] == first.layers[0], "layers themselves are what they are"
    with tarfile.open(fileobj=io.BytesIO(builds.blob(changed.layers[1]))) as tar:
        assert {entry.name: (entry.mode, entry.uid, entry.gid) for entry in tar} == {
            "etc": (0o755, 0, 0),
            "etc/app": (0o755, 7, 8),
            "etc/app/a": (0o644, 7, 8),
        }


def diff_id_of_base(builds: Builds) -> Digest:
    """As its index in the layout names it: the layer of the COPY has one, too, and is written anew each time."""
    names = []
    for manifest in artifacts(builds.layout):
        value = json.loads((builds.layout / "blobs/sha256" / manifest).read_text())
        names.append((value["layers"][0]["size"], value["annotations"]["dev.imagewright.index.diff-id"]))
    return Digest.parse(max(names)[1])


def test_damage_is_a_miss(builds: Builds) -> None:
    """Of the blob, where the manifest doesn't have its content, and of the manifest."""
    flags = builds.places["layout"]
    builds.good(ONLY_COPY, "one", *flags)
    for manifest in artifacts(builds.layout):
        file = builds.layout / "blobs/sha256" / manifest
        file.write_bytes(file.read_bytes()[:-9])
    changed = builds.good(ONLY_COPY, "two", *flags, small=True)
    assert "ignoring the index of a layer of the cache" in changed.log
    assert changed.layers[0] in changed.pulled
    assert changed.layers == builds.good(ONLY_COPY, "two").layers


def test_a_cache_without_room_costs_a_warning(builds: Builds) -> None:
    builds.layout.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", builds.layout], check=True)
    try:
        outcome = builds.good(ONLY_COPY, "one", *builds.places["layout"])
    finally:
        subprocess.run(["umount", builds.layout], check=True)
    assert outcome.log.count(f"in the cache oci:{builds.layout}") == 1


def test_a_folder_that_is_read_only_is_only_read(builds: Builds) -> None:
    flags = builds.places["cache-dir"]
    first = builds.good(ONLY_COPY, "one", *flags)
    folder = builds.folder / "dir"
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        assert not os.access(folder, os.W_OK)
        changed = builds.good(ONLY_COPY, "two", *flags, small=True)
        other = builds.good(ONLY_COPY.replace("busybox", "debian"), "two", *flags)
    finally:
        subprocess.run(["umount", folder], check=True)
    assert first.layers[0] not in changed.pulled
    assert "warning" not in (changed.log + other.log).lower()


def test_of_an_image_only_layers_with_what_is_asked_for_are_pulled(builds: Builds) -> None:
    image = builds.good("FROM busybox\nCOPY a /one/\nCOPY a /two/\n", "x")
    name = f"{builds.name}@{(builds.folder / 'digest').read_text()}"
    flags = builds.places["cache-dir"]
    unknown = builds.good(f"FROM scratch\nCOPY --from={name} /one/a /\n", "", *flags, small=True)
    assert unknown.pulled >= set(image.layers), "else this shows nothing"
    known = builds.good(f"FROM scratch\nCOPY --from={name} /two/a /etc/passwd /\n", "", *flags, small=True)
    assert known.pulled & set(image.layers) == {image.layers[0], image.layers[2]}


def test_a_wrong_index_of_an_image_that_is_copied_from_is_replaced(builds: Builds) -> None:
    flags = builds.places["layout"]
    builds.good(ONLY_COPY, "one", *flags)
    store, base = LayoutStore(str(builds.layout)), diff_id_of_base(builds)
    index = poisoned(Entry(b"etc/group", REGULAR, 0o644, 0, 0, 1, 0)).finish(base)
    store.put(index_key(base), index_artifact(base, index), EMPTY_CONFIG, opened(index, builds.folder))
    copying = "FROM scratch\nCOPY --from=busybox /etc/group /\n"
    copied = builds.good(copying, "", *flags)
    assert "ignoring the index of a layer of the cache" in copied.log
    assert copied.layers == builds.good(copying, "").layers
