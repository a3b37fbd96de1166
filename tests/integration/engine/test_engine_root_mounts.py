"""The root sandbox in a container with mounts: the image is the same as without them, and they are not changed."""

from __future__ import annotations

import os
import shutil

import pytest
from containers.container import Container, archive, layers_of, make_base

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")]

TOKEN = "var/run/secrets/kubernetes.io/serviceaccount"


DEBIAN: dict[str, str | tuple[str, int] | None] = {"run": 0o755, "run/lock": 0o755, "var": 0o755, "var/run": "-> /run"}


def test_a_token_below_a_link_of_the_image(container: Container) -> None:
    token = container.volume(TOKEN, {"token": "secret"})
    make_base(container, DEBIAN)
    base = layers_of(container.root / "kaniko/base")
    layers = container.build(
        f"FROM base\nRUN busybox mkdir /var/run/sshd && busybox readlink /var/run && busybox cat /{TOKEN}/token\n"
    )
    assert len(layers) == len(base) + 1
    assert set(layers[-1].entries) == {"run", "run/sshd"}
    assert "| /run\n" in container.log
    assert "| secret\n" in container.log
    assert (token / "token").read_text() == "secret"


def test_a_secret_next_to_a_token(container: Container) -> None:
    """Both are below /run/secrets, which the image does not have."""
    container.volume(TOKEN, {"token": "secret"})
    (container.root / "kaniko/password").write_text("hunter2")
    make_base(container, DEBIAN)
    layers = container.build(
        "FROM base\nRUN --mount=type=secret,id=password busybox wc -c </var/run/secrets/password && echo >/ran\n",
        {},
        "--secret=id=password,src=/kaniko/password",
    )
    assert "| 7\n" in container.log
    assert set(layers[-1].entries) == {"ran"}


def test_every_stage_finds_a_mount_where_its_image_leads_to_it(container: Container) -> None:
    container.volume(TOKEN, {"token": "secret"})
    make_base(container, DEBIAN)
    look = f"RUN busybox cat /{TOKEN}/token && busybox ls -A / >/seen\n"
    layers = container.build(
        f"FROM base AS linked\n{look}FROM scratch AS plain\nCOPY --from=base /bin /bin\nENV PATH=/bin\n{look}"
        f"FROM linked\nCOPY --from=plain /seen /plain\nRUN busybox cat /{TOKEN}/token && busybox ls -A /run >/again\n"
    )
    assert container.log.count("| secret\n") == 3
    assert layers[-1].contents["again"] == "lock\nsecrets\n"
    assert not any(name.startswith(("var", "run")) for layer in layers[-3:] for name in layer.entries)


def test_a_link_to_an_existing_folder(container: Container) -> None:
    """UBI: the folder of the certificates is a link, and a file in it is mounted."""
    certificate = container.file("etc/ssl/certs/ca-certificates.crt", "the cluster's")
    make_base(
        container,
        {"etc": 0o755, "etc/pki": 0o755, "etc/pki/certs": 0o755, "etc/pki/certs/bundle": "the image's"},
        {"etc": 0o755, "etc/ssl": 0o755, "etc/ssl/certs": "-> ../pki/certs"},
    )
    layers = container.build(
        "FROM base\nCOPY mine /etc/ssl/certs/mine\nRUN busybox cat /etc/ssl/certs/ca-certificates.crt && echo x >/etc/ssl/certs/lost\n"
        "RUN echo y >/etc/ssl/certs/lost2; echo kept >/etc/ssl/kept\nRUN echo y >/etc/ssl/certs/lost3\n",
        {"mine": "mine"},
    )
    copied, *ran = layers[-2:]
    assert set(copied.entries) == {"etc", "etc/pki", "etc/pki/certs", "etc/pki/certs/mine"}
    assert [set(layer.entries) for layer in ran] == [{"etc", "etc/ssl", "etc/ssl/kept"}]
    assert "| the cluster's" in container.log
    assert container.log.count("is not in the image") == 1
    assert 'RUN wrote "/etc/ssl/certs/lost"' in container.log
    assert certificate.read_text() == "the cluster's"


def test_a_file_of_the_image_where_a_folder_leads_to_a_mount(container: Container) -> None:
    volume = container.volume("cache/deep", {"kept": "kept"})
    make_base(container, {"cache": "a file"})
    layers = container.build(
        "FROM base AS first\nRUN busybox ls /cache/deep && echo >/ran\nFROM base\nCOPY --from=first /cache /copied\n"
    )
    assert "| kept\n" in container.log
    assert layers[-1].contents == {"copied": "a file"}
    assert [path.name for path in volume.iterdir()] == ["kept"]


def test_a_folder_of_the_image_keeps_its_mode(container: Container) -> None:
    container.volume("cache/deep", {})
    make_base(container, {"cache": 0o750, "cache/file": "x"})
    layers = container.build("FROM base\nRUN busybox stat -c %a /cache && echo >/cache/new\n")
    assert "| 750\n" in container.log
    assert (set(layers[-1].entries), layers[-1].entries["cache"].mode) == ({"cache", "cache/new"}, 0o750)


def test_a_stage_sees_neither_the_executors_files_nor_an_earlier_stages(container: Container) -> None:
    container.volume("etc/app/deep", {})
    make_base(container, {"opt": 0o755, "etc": 0o711, "etc/app": "-> /opt"})
    layers = container.build(
        "FROM base AS first\nRUN echo >/etc/app/lost; echo >/etc/kept\nFROM scratch\nCOPY --from=base /bin /bin\nENV PATH=/bin\n"
        "RUN busybox find /etc >/seen; busybox stat -c %a /etc\nRUN echo >/etc/app/new\nCOPY --from=first /etc/kept /kept\n"
    )
    seen, made, _ = layers[-3:]
    assert sorted(seen.contents["seen"].split()) == ["/etc", "/etc/app", "/etc/app/deep", "/etc/hosts"]
    assert "| 755" in container.log
    assert set(made.entries) == {"etc", "etc/app", "etc/app/new"}
    assert 'RUN wrote "/etc/app/lost", which is not in the image' in container.log


def test_files_copied_onto_a_mount_reach_only_the_layer(container: Container) -> None:
    conf = container.file("etc/app/x.conf", "the cluster's")
    volume = container.volume("cache/deep", {"kept": "kept"})
    make_base(container, {"etc": 0o755, "etc/app": 0o755, "etc/app/x.conf": "the base's", "etc/app/y.conf": "y"})
    (container.directory / "added.tar").write_bytes(archive({"deep": 0o711, "deep/added": "added"}))
    context = container.context(
        "FROM base AS built\nCOPY --chmod=600 x.conf /etc/app/\nADD added.tar /cache\nCOPY tree /cache/deep/tree\nWORKDIR /cache/deep/work\n"
        "WORKDIR /\nCOPY again /cache/deep/\nRUN busybox cat /etc/app/x.conf && busybox ls /cache/deep\n"
        "FROM base\nCOPY --from=built /etc/app /app\nCOPY --from=built /cache /cache\n",
        {"x.conf": "mine", "tree/a": "a", "again": "again"},
    )
    shutil.copy(container.directory / "added.tar", container.root / "kaniko/context/added.tar")
    container.execute(context, "--target=built")
    assert container.code == 0, container.log
    *_, copied, added, tree, work, again = container.layers()
    assert (copied.contents, copied.entries["etc/app/x.conf"].mode) == ({"etc/app/x.conf": "mine"}, 0o600)
    assert (set(added.entries), added.entries["cache/deep"].mode) == (
        {"cache", "cache/deep", "cache/deep/added"},
        0o711,
    )
    assert tree.contents == {"cache/deep/tree/a": "a"}
    assert set(work.entries) == {"cache", "cache/deep", "cache/deep/work"}
    assert again.contents == {"cache/deep/again": "again"}
    assert "| the cluster's" in container.log
    assert container.log.count("hidden from RUN") == 2
    container.execute(context)
    assert container.code == 0, container.log
    app, cache = container.layers()[-2:]
    assert app.contents == {"app/x.conf": "mine", "app/y.conf": "y"}
    assert cache.contents == {"cache/deep/added": "added", "cache/deep/tree/a": "a", "cache/deep/again": "again"}
    assert conf.read_text() == "the cluster's"
    assert [path.name for path in volume.iterdir()] == ["kept"]


def test_a_single_layer_has_files_copied_onto_a_mount(container: Container) -> None:
    container.volume("cache/deep", {"kept": "kept"})
    make_base(container)
    layers = container.build(
        "FROM base\nCOPY file /cache/deep/file\nRUN echo >/ran\n", {"file": "file"}, "--single-snapshot"
    )
    assert set(layers[-1].entries) == {"cache", "cache/deep", "cache/deep/file", "ran"}


def test_a_write_into_a_mount_is_reported_once(container: Container) -> None:
    volume = container.volume("cache/deep", {"old": "old"})
    make_base(container)
    layers = container.build(
        "FROM base\nRUN busybox cat /cache/deep/old\nRUN echo new >/cache/deep/new; echo >/x\nRUN echo new >/cache/deep/newer; echo >/y\n"
    )
    assert [set(layer.entries) for layer in layers[-2:]] == [{"x"}, {"y"}]
    assert container.log.count("is not in the image") == 1
    assert 'RUN changed "/cache/deep/new", which is not in the image: "/cache/deep" is mounted' in container.log
    assert sorted(path.name for path in volume.iterdir()) == ["new", "newer", "old"]


@pytest.mark.parametrize(
    "command",
    [
        "busybox mv /new /etc/app/x.conf",
        "busybox sed -i s/a/b/ /etc/app/x.conf",
        "busybox rm /etc/app/x.conf",
        "cd /etc/app && busybox mv /new x.conf",
    ],
)
def test_a_mounted_file_cannot_be_replaced_and_the_hint_names_it(container: Container, command: str) -> None:
    conf = container.file("etc/app/x.conf", "the cluster's")
    make_base(container, {"new": "new"})
    container.execute(container.context(f"FROM base\nRUN {command}\n"))
    assert container.code != 0
    assert "resource busy" in container.log
    hint = next(line for line in container.log.splitlines() if "RUN cannot replace or remove" in line)
    assert '"/etc/app/x.conf"' in hint
    assert conf.read_text() == "the cluster's"


@pytest.mark.parametrize(
    "command", ["echo x: Read-only file system; exit 1", "echo /etc/app/x.conf: no such thing; exit 1"]
)
def test_other_failures_get_no_hint_about_mounts(container: Container, command: str) -> None:
    container.file("etc/app/x.conf", "x")
    make_base(container)
    container.execute(container.context(f"FROM base\nRUN {command}\n"))
    assert container.code != 0
    assert "RUN cannot replace" not in container.log


def test_folders_above_a_mount_are_in_the_image_if_it_creates_them(container: Container) -> None:
    container.volume("a/deep", {})
    container.volume("b/way/deep", {})
    container.volume("c/deep", {})
    container.volume("d/deep", {})
    make_base(container)
    layers = container.build(
        "FROM base\nRUN busybox ls /a /b /c /d >/seen\nRUN echo >/b/way/new\nRUN busybox chown 5 /c\nWORKDIR /d\nCOPY x /a/x\n",
        {"x": "x"},
    )
    seen, ran, changed, work, copied = layers[-5:]
    assert set(seen.entries) == {"seen"}
    assert set(ran.entries) == {"b", "b/way", "b/way/new"}
    assert {name: member.uid for name, member in changed.entries.items()} == {"c": 5}
    assert set(work.entries) == {"d"}
    assert set(copied.entries) == {"a", "a/x"}


def test_a_moved_mount_stays_in_its_volume_and_out_of_the_layer(container: Container) -> None:
    volume = container.volume("cache/deep", {"kept": "kept"})
    make_base(container, {"cache": 0o755, "cache/file": "file"})
    layers = container.build(
        "FROM base AS first\nCOPY hidden /cache/deep/hidden\nRUN busybox mv /cache /moved\nFROM base\nCOPY --from=first /moved /moved\n"
        "RUN busybox ls /cache/deep\n",
        {"hidden": "hidden"},
    )
    assert layers[-1].contents == {"moved/file": "file", "moved/deep/hidden": "hidden"}
    assert "| kept" in container.log
    assert [path.name for path in volume.iterdir()] == ["kept"]
    container.execute("/kaniko/context", "--target=first")
    moved = container.layers()[-1]
    assert set(moved.entries) == {".wh.cache", "moved", "moved/file", "moved/deep", "moved/deep/hidden"}
