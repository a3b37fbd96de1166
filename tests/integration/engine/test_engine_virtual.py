"""Steps that only write need none of their base's files on disk, and with --link none of its layers."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from engineruns.smallplaces import SMALL, Place
from servers.registry import RegistryServer

pytestmark = [pytest.mark.root, pytest.mark.registry]

_ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"}
FILES = {"a": "a", "d/b": "b", "d/c": "c"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """``blobs`` are the layers that were downloaded, by digest."""

    code: int
    digest: str
    log: str
    blobs: tuple[str, ...]
    layers: tuple[str, ...]


class Builds:
    """Builds with a work folder that is too small for any base image."""

    def __init__(self, registry: RegistryServer, folder: Path) -> None:
        self._place = Place(registry, folder)
        self.name = f"{registry.host}/{folder.name.lower()}/app"
        self.context = self._place.context

    def write(self, dockerfile: str, **files: str) -> None:
        shutil.rmtree(self.context, ignore_errors=True)
        for name, content in {**FILES, **files, "Dockerfile": dockerfile}.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            os.utime(path, (1_600_000_000, 1_600_000_000))

    def build(self, *flags: str, work: str = SMALL) -> Outcome:
        run = self._place.run(f"{self.name}:1", *flags, prepare=work)
        digest = self._place.digest.read_text() if run.code == 0 else ""
        return Outcome(run.code, digest, run.log, run.pulled, self._layers(digest))

    def good(self, *flags: str, work: str = SMALL) -> Outcome:
        outcome = self.build(*flags, work=work)
        assert outcome.code == 0, outcome.log
        return outcome

    def _layers(self, digest: str) -> tuple[str, ...]:
        if not digest:
            return ()
        host, _, repository = self.name.partition("/")
        request = urllib.request.Request(f"http://{host}/v2/{repository}/manifests/{digest}", headers=_ACCEPT)
        with urllib.request.urlopen(request) as response:
            return tuple(layer["digest"] for layer in json.load(response)["layers"])


@pytest.fixture
def builds(bases: RegistryServer, tmp_path: Path) -> Builds:
    return Builds(bases, tmp_path)


WRITES_ONLY = """\
FROM busybox
WORKDIR /etc/app/work
COPY --chown=nobody:users --chmod=0640 d a /usr/share/app/
"""


def test_nothing_of_the_base_is_written(builds: Builds) -> None:
    builds.write(WRITES_ONLY)
    small = builds.good()
    builds.write(WRITES_ONLY + 'RUN ["true"]\n')  # needs all files, and adds no layer
    large = builds.good(work="")
    assert small.layers == large.layers
    assert len(small.layers) == len(set(small.layers)) == 3
    assert small.blobs.count(small.layers[0]) == 1  # streamed once
    full = builds.build()
    assert full.code != 0, "the work folder has room for the base, so that this test shows nothing"
    assert "DiskFull" in full.log or "no space left" in full.log


def test_a_link_needs_no_layer_of_the_base(builds: Builds) -> None:
    builds.write("FROM busybox\nCOPY --link --chown=7:8 d /usr/share/app/\nCOPY --link a /etc/\n")
    small = builds.good()
    assert small.layers[0] not in small.blobs
    builds.write('FROM busybox\nCOPY --link --chown=7:8 d /usr/share/app/\nCOPY --link a /etc/\nRUN ["true"]\n')
    assert builds.good(work="").layers == small.layers


def test_a_stage_that_copies_from_another_needs_no_base_on_disk(builds: Builds) -> None:
    stages = "FROM scratch AS made\nCOPY . /made/\nFROM scratch AS also\nCOPY --from=made /made/d /d\n"
    last = f"{stages}FROM busybox\nCOPY --from=made /made/a /app/\nCOPY --from=also --chown=nobody /d /app/\n"
    builds.write(last)
    virtual = builds.good()
    builds.write(last + 'RUN ["true"]\n')
    assert builds.good(work="").layers == virtual.layers
    assert [virtual.blobs.count(layer) for layer in virtual.layers] == [1, 0, 0]


def test_after_cached_commands_nothing_is_unpacked(builds: Builds) -> None:
    """Another last COPY: the layers of the base and of the cached RUN are read at most once, and not written."""
    flags = ("--cache", f"--cache-repo={builds.name}/cache")
    steps = "FROM busybox\nRUN head -c 600000 /dev/zero >/zeros; mkdir /app\nCOPY {} /app/\n"
    builds.write(steps.format("a"))
    first = builds.good(*flags, work="")
    builds.write(steps.format("d"))
    changed = builds.good(*flags)
    assert changed.layers[:2] == first.layers[:2]
    assert max(changed.blobs.count(layer) for layer in changed.layers) <= 1


def test_archives_are_added_without_the_base(builds: Builds) -> None:
    """Their files are written to the work folder, and the base is not."""
    steps = "FROM busybox\nCOPY d /usr/share/\nADD x.tar /\nCOPY a /usr/share/x/../y\nADD x.tar a /usr/share/\n"
    outcomes = []
    for after, work in (("", SMALL), ('RUN ["true"]\n', "")):
        builds.write(steps + after)
        with tarfile.open(builds.context / "x.tar", "w") as tar:
            for name in ("usr/share/x/z", "a", "b", "usr/share/x/n"):
                tar.add(builds.context / "a", name)
        outcomes.append(builds.good(work=work))
    virtual, disk = outcomes
    assert virtual.layers == disk.layers
    assert len(virtual.layers) == 5
    assert virtual.blobs.count(virtual.layers[0]) == 1


def test_an_archive_that_links_files_of_the_base_is_added_on_disk(builds: Builds) -> None:
    """A layer has the data of such a link, and only the base has them."""
    layers = []
    for after in ("", 'RUN ["true"]\n'):
        builds.write(f"FROM busybox\nADD x.tar /\n{after}")
        with tarfile.open(builds.context / "x.tar", "w") as tar:
            link = tarfile.TarInfo("linked")
            link.type, link.linkname = tarfile.LNKTYPE, "etc/passwd"
            tar.addfile(link)
        layers.append(builds.good(work="").layers)
    assert layers[0] == layers[1]
    assert len(layers[0]) == 2


SEVERAL = {
    "an equal file again": "COPY --link a /app/\nCOPY a d /app/\n",
    "an equal file of this stage": "COPY a /app/\nCOPY a d /app/\n",
    "one file under two names": "COPY a /app/\nCOPY a d/same /app/\n",
    "a file of one time and size, with other data": "COPY a /app/\nCOPY other /app/a\n",
}


@pytest.mark.parametrize("steps", SEVERAL.values(), ids=SEVERAL)
def test_files_are_compared_without_the_base(builds: Builds, steps: str) -> None:
    outcomes = []
    for after, work in (("", SMALL), ('RUN ["true"]\n', "")):
        builds.write(f"FROM busybox\n{steps}{after}", other="o")
        (builds.context / "d" / "same").hardlink_to(builds.context / "a")
        outcomes.append(builds.good(work=work))
    virtual, disk = outcomes
    assert virtual.layers == disk.layers
    assert virtual.blobs.count(virtual.layers[0]) == 1


def test_a_layer_is_read_again_for_the_data_of_an_equal_file(builds: Builds) -> None:
    """A file of the base that is copied again is not added; one of the same size and time is."""
    builds.write("FROM busybox\nCOPY . /app/\n")
    base = builds.good()
    repository = builds.name.partition("/")[2]
    builds.write(f"FROM {repository}:1\nCOPY d /app/d/\nCOPY a /app/\n", **{"d/c": "d"})
    again = builds.good()
    assert again.layers[:2] == base.layers
    assert len(again.layers) == 3
    assert [again.blobs.count(layer) for layer in again.layers] == [1, 2, 0]
    builds.write(f'FROM {repository}:1\nCOPY d /app/d/\nCOPY a /app/\nRUN ["true"]\n', **{"d/c": "d"})
    builds.name += "/disk"
    assert builds.good(work="").layers[1:] == again.layers[1:]


def test_sources_of_past_steps_are_closed(builds: Builds) -> None:
    """A virtual root knows where its files came from until the stage ends, but keeps none of it open."""
    builds.write("FROM scratch\n" + "".join(f"COPY <<f /{number}\n{number}\nf\n" for number in range(100)))
    assert len(builds.good(work="ulimit -n 80 && true").layers) == 100


def test_files_of_the_base_itself_are_copied_on_disk(builds: Builds) -> None:
    outcomes = []
    for after in ("", 'RUN ["true"]\n'):
        builds.write(f"FROM busybox\nCOPY --from=busybox /bin/busybox /b\n{after}")
        outcomes.append(builds.good(work=""))
    alone, before_run = outcomes
    assert before_run.layers == alone.layers
    assert alone.blobs.count(alone.layers[0]) == 1


AGAIN = "FROM busybox\nCOPY a /app/\nCOPY d /app/d/\n"


def test_a_step_adds_the_same_with_and_without_a_cached_layer_below(builds: Builds) -> None:
    """Times are clamped in layers and not in files: what was unpacked from a cached layer is as what was copied."""
    outcomes = []
    for after, work in (("", SMALL), ('RUN ["true"]\n', "")):
        for filled in (False, True):
            repository = f"{builds.name}/{'virtual' if after else 'disk'}"
            flags = ("--cache", "--cache-copy-layers", f"--cache-repo={repository}") if filled else ()
            if filled:
                builds.write(AGAIN)
                builds.good(*flags, work="")
            builds.write(f"{AGAIN}COPY a new /app/\n{after}", new="new")
            os.utime(builds.context / "a", (1_700_000_000, 1_700_000_000))  # another checkout
            outcomes.append(builds.good(*flags, work=work))
    assert [outcome.layers for outcome in outcomes[1:]] == [outcomes[0].layers] * 3
    assert len(outcomes[0].layers) == 4


# No room for a layer of debian, compressed, or for its thousands of files.
_FEW_FILES = "mount -t tmpfs -o size=4m,nr_inodes=200 tmpfs"
FROM_IMAGE = {
    "one file, behind links": "COPY --from=debian /etc/os-release /bin/true /\n",
    "wildcards": "COPY --from=debian /etc/*-release /etc/[d-e]*_version /out/\n",
    "a folder": "COPY --from=debian --exclude=**/*.conf /etc/apt /out/\n",
    "with parents": "COPY --from=debian --parents /usr/./lib/os-r* /etc/pam.d /out/\n",
    "in several steps and stages": "COPY --from=debian /etc/passwd /a\nFROM scratch\nCOPY --from=first /a /\n"
    "COPY --from=debian --link /etc/group /b\nCOPY --from=docker.io/library/debian:latest /etc/issue /c\n",
}


@pytest.mark.parametrize("steps", FROM_IMAGE.values(), ids=FROM_IMAGE)
def test_only_what_is_asked_for_is_unpacked_of_an_image(builds: Builds, steps: str) -> None:
    builds.write(f"FROM scratch AS first\n{steps}")
    small = builds.good(work=_FEW_FILES)
    assert len(set(small.blobs)) == len(small.blobs)  # each layer is downloaded once
    of_stage = re.sub("--from=(docker.io/library/)?debian(:latest)?", "--from=whole", steps)
    builds.write(f"FROM scratch AS whole\nCOPY --from=debian / /\nFROM scratch AS first\n{of_stage}")
    assert builds.good(work="").layers == small.layers
    builds.write("FROM scratch\nCOPY --from=debian / /\n")
    full = builds.build(work=_FEW_FILES)
    assert full.code != 0, "the work folder has room for the whole image, so that this test shows nothing"
    assert "no space left" in full.log


def test_a_mount_shows_only_what_is_asked_for_of_an_image(builds: Builds) -> None:
    builds.write(
        "FROM busybox\nRUN --mount=from=debian,source=/etc/apt,target=/x "
        "--mount=from=debian,source=/etc/os-release,target=/y ls -lnR /x >/out && stat -c %h /y >>/out\n"
        "FROM scratch\nCOPY --from=0 /out /\n"
    )
    small = builds.good(work="mount -t tmpfs -o size=64m,nr_inodes=1000 tmpfs")
    builds.write(
        "FROM busybox\nRUN --mount=from=debian,target=/whole "
        "ls -lnR /whole/etc/apt | sed s,/whole/etc/apt,/x, >/out && stat -c %h /whole/usr/lib/os-release >>/out\n"
        "FROM scratch\nCOPY --from=0 /out /\n"
    )
    assert builds.good(work="mount -t tmpfs tmpfs").layers == small.layers


def test_an_image_is_unpacked_whole_where_memory_cannot_tell_what_is_asked_for(builds: Builds) -> None:
    builds.write("FROM scratch\nCOPY . /\n")
    acl = [(0x01, 6, -1), (0x02, 4, 1000), (0x04, 4, -1), (0x10, 4, -1), (0x20, 4, -1)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in acl)  # acl(5)
    os.setxattr(builds.context / "a", "system.posix_acl_access", value)
    made = builds.good()
    builds.write(f"FROM scratch\nCOPY --from={builds.name}@{made.digest} d/b /\n")
    copied = builds.good()
    assert copied.blobs.count(made.layers[0]) == 2  # for the index, and to be unpacked
    builds.write("FROM scratch\nCOPY d/b /\n")
    assert builds.good().layers == copied.layers
