"""Outputs of a build: media types, compression, annotations, digest files, one layer or many."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

if TYPE_CHECKING:
    from conftest import Engine  # pytest gives it; only its name is needed here

pytestmark = [pytest.mark.root, pytest.mark.registry]

DOCKERFILE = "FROM busybox\nRUN mkdir /a && echo one >/a/one && echo two >/a/two\nCOPY f /f\nLABEL a=b\n"
FILES = {"f": "content"}
DOCKER = "application/vnd.docker."
OCI = "application/vnd.oci.image."


def types(manifest: dict[str, object]) -> set[str]:
    layers = manifest["layers"]
    config = manifest["config"]
    assert isinstance(layers, list)
    assert isinstance(config, dict)
    return {str(manifest["mediaType"]), config["mediaType"], *(layer["mediaType"] for layer in layers)}


def blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / "sha256" / digest.partition(":")[2]).read_bytes()


@pytest.mark.parametrize(("asked", "family"), [("docker", DOCKER), ("oci", OCI)])
def test_media_types_are_those_requested(engine: Engine, asked: str, family: str) -> None:
    built = engine.image(DOCKERFILE, FILES, f"--image-format={asked}")
    assert {name for name in types(built.manifest) if not name.startswith(family)} == set()


def test_a_base_images_format_is_kept(engine: Engine) -> None:
    name = f"{engine.host}/test/base-{engine.folder.name.lower()}:1"
    engine.image(DOCKERFILE, FILES, "--image-format=docker", f"--destination={name}")
    again = engine.image(f"FROM {name}\nRUN echo more >/more\n")
    assert {kind for kind in types(again.manifest) if not kind.startswith(DOCKER)} == set()
    other = engine.image(f"FROM {name}\nRUN echo more >/more\n", {}, "--image-format=oci")
    assert {kind for kind in types(other.manifest) if not kind.startswith(OCI)} == set()
    # The bytes of its layers are the same: only what they are called differs.
    assert [layer["digest"] for layer in other.manifest["layers"][:-1]] == [
        layer["digest"] for layer in again.manifest["layers"][:-1]
    ]


def test_zstd(engine: Engine) -> None:
    built = engine.image(DOCKERFILE, FILES, "--compression=zstd", "--compression-level=9")
    own = built.manifest["layers"][-2:]
    assert [layer["mediaType"] for layer in own] == [f"{OCI}layer.v1.tar+zstd"] * 2
    with zstandard.open(built.layout / "blobs" / "sha256" / own[0]["digest"].partition(":")[2], "rb") as stream:
        names = tarfile.open(fileobj=stream, mode="r|").getnames()  # noqa: SIM115
    assert names == ["a", "a/one", "a/two"]
    assert {name for name in types(built.manifest) if not name.startswith(OCI)} == set()


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_compression_level(engine: Engine, level: int) -> None:
    built = engine.image(
        "FROM busybox\nRUN for n in $(seq 9000); do echo line $n; done >/lines\n", {}, f"--compression-level={level}"
    )
    data = blob(built.layout, built.manifest["layers"][-1]["digest"])
    assert len(gzip.decompress(data)) > 90_000
    sizes = {0: (20_000, 60_000), 1: (20_000, 60_000), 6: (10_000, 26_000), 9: (10_000, 26_000)}
    assert sizes[level][0] < len(data) < sizes[level][1], len(data)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--compression=zstd", "--image-format=docker"], "cannot combine"),
        (["--annotation=a=b", "--image-format=docker"], "cannot combine"),
        (["--compression-level=10"], "gzip has levels 0 to 9"),
        (["--compression=zstd", "--compression-level=23"], "zstd has levels 1 to 22"),
        (["--compression=estargz"], 'invalid --compression value "estargz"'),
    ],
)
def test_conflicting_flags_fail_before_the_build(engine: Engine, flags: list[str], says: str) -> None:
    built = engine.build(engine.context("FROM busybox\nRUN echo never\n"), *flags)
    assert built.code == 2, built.stderr
    assert says in built.stderr
    assert "never" not in built.stderr


def test_annotations_are_in_the_manifest(engine: Engine) -> None:
    built = engine.image(DOCKERFILE, FILES, "--annotation=org.example.a=b=c", "--annotation=empty=", "--label=x=y")
    assert built.manifest["annotations"] == {"empty": "", "org.example.a": "b=c"}
    assert built.manifest["mediaType"] == f"{OCI}manifest.v1+json"
    assert built.config["config"]["Labels"] == {"a": "b", "x": "y"}


def test_digest_files(engine: Engine) -> None:
    folder = engine.folder / "out"
    other = f"{engine.host}/test/other-{engine.folder.name.lower()}:2"
    built = engine.image(
        DOCKERFILE, FILES, f"--destination={other}", f"--digest-file={folder}/digest",
        f"--image-name-with-digest-file={folder}/name", f"--image-name-tag-with-digest-file={folder}/tag",
    )  # fmt: skip
    assert (folder / "digest").read_text() == built.digest
    names = [built.name, other]
    assert (folder / "name").read_text() == "".join(f"{n.rpartition(':')[0]}@{built.digest}\n" for n in names)
    assert (folder / "tag").read_text() == "".join(f"{n}@{built.digest}\n" for n in names)


def test_result_file_of_a_successful_and_a_failed_build(engine: Engine) -> None:
    file = engine.folder / "result.json"
    built = engine.image(DOCKERFILE, FILES, f"--result-file={file}")
    result = json.loads(file.read_text())
    assert result["digest"] == built.digest
    assert result["references"] == [f"{built.name}@{built.digest}"]
    assert [step["name"].partition("] ")[2] for step in result["steps"]][-1] == "COPY f /f"
    failed = engine.build(engine.context("FROM busybox\nRUN exit 3\n"), f"--result-file={file}")
    assert failed.code == 7
    result = json.loads(file.read_text())
    assert result["failure"]["exitCode"] == 3
    assert result["failure"]["line"] == 2


def test_an_unwritable_result_file_fails_the_build(engine: Engine) -> None:
    built = engine.build(engine.context("FROM busybox\n"), "--result-file=/proc/result.json")
    assert built.code == 6
    assert "--result-file" in built.stderr


def test_single_snapshot_makes_one_layer(engine: Engine) -> None:
    dockerfile = (
        "FROM busybox\nRUN echo one >/one && echo gone >/gone\nCOPY f /f\nRUN rm /gone && echo two >/two\n"
        "WORKDIR /w\nLABEL a=b\nRUN --mount=type=tmpfs,target=/mnt/x echo x >/mnt/x/y\n"
    )
    many = engine.image(dockerfile, FILES)
    one = engine.image(dockerfile, FILES, "--single-snapshot")
    assert len(one.manifest["layers"]) == len(many.manifest["layers"]) - 4 + 1
    with tarfile.open(one.layout / "blobs" / "sha256" / one.manifest["layers"][-1]["digest"].partition(":")[2]) as tar:
        assert [name for name in tar.getnames() if not name.startswith(("etc", "dev", "proc", "sys"))] == [
            "f",
            "one",
            "two",
            "w",
        ]
    assert [created_by for created_by, _ in one.history] == [created_by for created_by, _ in many.history]
    assert (
        sum(added for _, added in one.history) == len(one.manifest["layers"]) == len(one.config["rootfs"]["diff_ids"])
    )


def test_ignored_paths_are_in_no_layer(engine: Engine) -> None:
    dockerfile = "FROM busybox\nRUN mkdir -p /cache /var/run && echo a >/cache/a && echo b >/var/run/b && echo c >/c\n"
    built = engine.image(dockerfile, {}, "--ignore-path=/cache", "--ignore-path=/var/run")
    with tarfile.open(built.layout / "blobs/sha256" / built.manifest["layers"][-1]["digest"].partition(":")[2]) as tar:
        names = tar.getnames()
    assert "c" in names
    assert not [name for name in names if name.startswith(("cache", "var/run"))]


def test_dryrun_prints_the_plan_and_builds_nothing(engine: Engine) -> None:
    built = engine.build(engine.context("FROM busybox\nRUN exit 1\n"), "--dryrun")
    assert built.code == 0, built.stderr
    assert "RUN exit 1" in built.stdout
    assert not built.layout.exists()


def test_context_sub_path(engine: Engine) -> None:
    context = engine.context(
        "FROM scratch\nCOPY outside /\n", {"sub/Dockerfile": "FROM scratch\nCOPY inside /\n", "sub/inside": "x"}
    )
    built = engine.build(context, "--context-sub-path=sub")
    assert built.code == 0, built.stderr


def test_an_archive_of_many_tags_is_loaded_by_skopeo(engine: Engine) -> None:
    archive = engine.folder / "image.tar"
    built = engine.image(
        DOCKERFILE, FILES, f"--tar-path={archive}", "--destination=registry.example.com/app:2", "--no-push"
    )
    done = subprocess.run(
        ["skopeo", "inspect", "--config", f"docker-archive:{archive}"], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["config"]["Labels"] == {"a": "b"}
    with tarfile.open(archive) as tar:
        listing = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert listing[0]["RepoTags"] == [built.name, "registry.example.com/app:2"]
