"""What the log says about why a build was quick or slow."""

from __future__ import annotations

import io
import re
import tarfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Engine  # pytest gives it; only its name is needed here

pytestmark = [pytest.mark.root, pytest.mark.registry]


def _archive_with_a_link_to(path: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        link = tarfile.TarInfo("another")
        link.type, link.linkname = tarfile.LNKTYPE, path
        archive.addfile(link)
    return content.getvalue()


@pytest.mark.parametrize(
    ("dockerfile", "flags", "says"),
    [
        ("FROM busybox\nCOPY a /\n", (), "stage-0: not unpacked, since its steps only write files"),
        ("FROM busybox\nRUN true\nCOPY a /\n", (), "stage-0: unpacking 1 layer, since a RUN needs the files"),
        (
            "FROM busybox AS one\nCOPY a /\nFROM scratch\nCOPY --from=one /a /\n",
            (),
            "one: unpacking 1 layer, since another stage reads the files",
        ),
        (
            "FROM busybox\nCOPY --from=busybox /bin/sh /a\n",
            (),
            "stage-0: unpacking 1 layer, since COPY --from reads the same image",
        ),
        (
            "FROM busybox\nCOPY a /\n",
            ("--single-snapshot",),
            "stage-0: unpacking 1 layer, since --single-snapshot compares the files",
        ),
        (
            "FROM busybox\nADD links.tar /\n",
            (),
            "stage-0: unpacking 1 layer, since an archive has a link to a file of the image",
        ),
    ],
)
def test_whether_a_base_is_unpacked_and_why(engine: Engine, dockerfile: str, flags: tuple[str, ...], says: str) -> None:
    files = {"a": "a\n", "links.tar": _archive_with_a_link_to("bin/busybox")}
    built = engine.build(engine.context(dockerfile, files), "--verbosity=debug", *flags)
    assert built.code == 0, built.stderr
    assert f"\n{says}\n" in built.stderr


def test_layers_whose_index_the_cache_has(engine: Engine) -> None:
    dockerfile = "FROM busybox\nRUN mkdir /app\nCOPY a /app/\n"
    flags = ("--cache", "--verbosity=debug")
    engine.build(engine.context(dockerfile, {"a": "one"}), *flags)
    changed = engine.build(engine.context(dockerfile, {"a": "two"}), *flags)
    said = r"^found the index of the layer with diff ID ([0-9a-f]{12}) in \S+/cache$"
    below = changed.config["rootfs"]["diff_ids"][:-1]
    found = re.findall(said, changed.stderr, re.MULTILINE)
    assert sorted(found) == sorted(each.removeprefix("sha256:")[:12] for each in below)


def test_what_the_registry_has_is_not_said_to_be_pushed(engine: Engine) -> None:
    """Neither where it was pushed before nor where it is mounted from a sibling."""
    context = engine.context("FROM busybox\nRUN seq 1 900000 >/numbers\n")
    flags = ("--reproducible", "--verbosity=debug")
    first = engine.build(context, *flags)
    layer = first.manifest["layers"][-1]
    name = layer["digest"].removeprefix("sha256:")[:12]
    assert layer["size"] > 1_000_000, "a layer that is logged at the usual level"
    assert f"  pushed {name}: " in first.stderr
    again = engine.build(context, *flags, f"--destination={first.name}-sibling")
    assert again.digest == first.digest
    assert f"  pushed {name}: " not in again.stderr
    assert f"  not pushed {name}: the registry has its " in again.stderr
    assert name not in engine.build(context, "--reproducible").stderr, "unless asked for"
