"""The root sandbox in a container that has things mounted: the image is what it would be without them, and they stay as they are.

The container is a mount namespace with a root of its own, in which the engine's programs are where the executor image has
them: below /imagewright.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")]

REPOSITORY = Path(__file__).parents[3]
HOST = "/imagewright/host"
TOKEN = "var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer's tar has: names without a slash at the end, and contents of files."""

    entries: dict[str, tarfile.TarInfo]
    contents: dict[str, str]


@dataclass(slots=True)
class Container:
    """``mounted``: paths in the container, without the first slash, and what is mounted there; "ro:" before one says so."""

    folder: Path
    mounted: dict[str, Path] = field(default_factory=dict)
    log: str = ""
    code: int = 0

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def volume(self, target: str, content: Mapping[str, str]) -> Path:
        """Mount a folder with these files."""
        source = self.folder / "volumes" / str(len(self.mounted))
        source.mkdir(parents=True)
        for name, text in content.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text)
        self.mounted[target] = source
        return source

    def file(self, target: str, content: str) -> Path:
        """Mount one file, as a ConfigMap's with subPath."""
        source = self.folder / "volumes" / str(len(self.mounted))
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(content)
        self.mounted[target] = source
        return source

    def context(self, dockerfile: str, files: Mapping[str, str] = {}) -> str:
        """A context where no image is in its way."""
        folder = self.root / "kaniko/context"
        shutil.rmtree(folder, ignore_errors=True)
        for name, text in {"Dockerfile": dockerfile, **files}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return "/kaniko/context"

    def execute(self, context: str, *flags: str) -> None:
        """Build in the root sandbox with what is mounted."""
        parts = [
            *((path, f"{HOST}{path}") for path in ("/usr", sys.base_prefix)),
            (str(REPOSITORY / "builder"), "/imagewright/builder"),
            (sysconfig.get_path("purelib"), "/imagewright/site"),
            ("/proc", "/proc"),
            ("/dev", "/dev"),
            *((str(source), f"/{target}") for target, source in self.mounted.items()),
        ]
        script = ["set -e"]
        for source, target in parts:
            place = shlex.quote(f"{self.root}{target}")
            made = f"mkdir -p {place}" if Path(source).is_dir() else f'mkdir -p "$(dirname {place})"; touch {place}'
            script.append(f"{made}; mount --rbind {shlex.quote(source)} {place}")
        maps = Path("/proc/self/maps").read_text()
        loader = re.search(r"/usr/\S*/ld-\S+", maps)
        found = (str(Path(path).parent) for path in re.findall(r"/usr/\S+\.so\S*", maps))
        libraries = dict.fromkeys((f"{sys.base_prefix}/lib", *found))  # a libpython of its own comes before another's
        assert loader is not None, "the loader of this Python isn't below /usr"
        program = os.path.realpath(sys.executable)
        command = [
            "chroot", str(self.root), f"{HOST}{loader[0]}", "--library-path", ":".join(f"{HOST}{path}" for path in libraries),
            f"{HOST}{program}", "-m", "imagewright", "build", f"--context={context}", "--sandbox=root", "--no-push",
            "--work-dir=/kaniko/work", "--oci-layout-path=/kaniko/out", "--build-context=base=oci-layout:///kaniko/base",
            *flags,
        ]  # fmt: skip
        script.append("exec " + shlex.join(command))
        env = {"PYTHONHOME": f"{HOST}{sys.base_prefix}", "PYTHONPATH": "/imagewright/builder:/imagewright/site",
               "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/root", "PATH": os.environ["PATH"]}  # fmt: skip
        shutil.rmtree(self.root / "kaniko/out", ignore_errors=True)
        done = subprocess.run(
            ["unshare", "--mount", "--propagation=private", "sh", "-c", "\n".join(script)],
            check=False, capture_output=True, text=True, env=env,
        )  # fmt: skip
        self.code, self.log = done.returncode, done.stdout + done.stderr
        assert "Traceback" not in self.log, self.log

    def build(self, dockerfile: str, files: Mapping[str, str] = {}, *flags: str) -> list[Layer]:
        """Build what must succeed; its layers, the base's first."""
        self.execute(self.context(dockerfile, files), *flags)
        assert self.code == 0, self.log
        return self.layers()

    def layers(self) -> list[Layer]:
        return layers_of(self.root / "kaniko/out")


def layers_of(layout: Path) -> list[Layer]:
    def blob(digest: str) -> Path:
        return layout / "blobs/sha256" / digest.partition(":")[2]

    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]["digest"]).read_text())
    found = []
    for descriptor in manifest["layers"]:
        with tarfile.open(blob(descriptor["digest"])) as tar:
            members = tar.getmembers()
            contents = {m.name: tar.extractfile(m).read().decode("latin-1") for m in members if m.isreg()}  # type: ignore[union-attr]
            found.append(Layer({member.name: member for member in members}, contents))
    return found


def archive(entries: Mapping[str, str | tuple[str, int] | None]) -> bytes:
    """A tar: None is a folder, "-> x" a link, (None-like "", mode) a folder with a mode, else a file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, what in entries.items():
            info = tarfile.TarInfo(name)
            if what is None or isinstance(what, tuple):
                info.type, info.mode = tarfile.DIRTYPE, what[1] if what is not None else 0o755
                tar.addfile(info)
            elif what.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, what[3:]
                tar.addfile(info)
            else:
                data = what.encode()
                info.size, info.mode = len(data), 0o644
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """An empty container of the executor image."""
    made = Container(tmp_path)
    for name in ("imagewright", "kaniko", "etc", "tmp"):
        (made.root / name).mkdir(parents=True)
    (made.root / "imagewright/executor-image").touch()
    (made.root / "etc/passwd").write_text("the executor's\n")
    made.file("etc/hosts", "127.0.0.1 localhost\n")
    return made


def make_base(container: Container, *layers: Mapping[str, str | tuple[str, int] | None]) -> None:
    """The image ``base``: a static busybox, and these layers."""
    folder = container.folder / "base"
    folder.mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox-static is missing: run scripts/setup"
    shutil.copy(busybox, folder / "busybox")
    lines = ["FROM scratch", "COPY busybox /bin/busybox", "COPY busybox /bin/sh"]
    for number, entries in enumerate(layers):
        (folder / f"{number}.tar").write_bytes(archive(entries))
        lines.append(f"ADD {number}.tar /")
    (folder / "Dockerfile").write_text("\n".join([*lines, "ENV PATH=/bin", ""]))
    subprocess.run(
        [sys.executable, "-m", "imagewright", "build", f"--context={folder}", "--sandbox=chroot", "--no-push",
         f"--oci-layout-path={container.root}/kaniko/base", f"--work-dir={container.folder}/work"],
        check=True, capture_output=True,
    )  # fmt: skip


DEBIAN: dict[str, str | tuple[str, int] | None] = {"run": None, "run/lock": None, "var": None, "var/run": "-> /run"}


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


def test_a_link_to_a_folder_that_is_there_already(container: Container) -> None:
    """UBI: the folder of the certificates is a link, and a file in it is mounted."""
    certificate = container.file("etc/ssl/certs/ca-certificates.crt", "the cluster's")
    make_base(
        container,
        {"etc": None, "etc/pki": None, "etc/pki/certs": None, "etc/pki/certs/bundle": "the image's"},
        {"etc": None, "etc/ssl": None, "etc/ssl/certs": "-> ../pki/certs"},
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
    make_base(container, {"cache": ("", 0o750), "cache/file": "x"})
    layers = container.build("FROM base\nRUN busybox stat -c %a /cache && echo >/cache/new\n")
    assert "| 750\n" in container.log
    assert (set(layers[-1].entries), layers[-1].entries["cache"].mode) == ({"cache", "cache/new"}, 0o750)


def test_nothing_of_the_executors_own_root_or_of_an_earlier_stage_is_seen(container: Container) -> None:
    container.volume("etc/app/deep", {})
    make_base(container, {"etc": ("", 0o711), "etc/app": "-> /nowhere/app/deep"})
    layers = container.build(
        "FROM base AS first\nRUN echo >/etc/app/lost; echo >/etc/kept\nFROM scratch\nCOPY --from=base /bin /bin\nENV PATH=/bin\n"
        "RUN busybox find /etc >/seen; busybox stat -c %a /etc\nRUN echo >/etc/app/new\nCOPY --from=first /etc/kept /kept\n"
    )
    seen, made, _ = layers[-3:]
    assert sorted(seen.contents["seen"].split()) == ["/etc", "/etc/app", "/etc/app/deep", "/etc/hosts"]
    assert "| 755" in container.log
    assert set(made.entries) == {"etc", "etc/app", "etc/app/new"}


def test_what_is_copied_onto_a_mount_reaches_the_layer_alone(container: Container) -> None:
    conf = container.file("etc/app/x.conf", "the cluster's")
    volume = container.volume("cache/deep", {"kept": "kept"})
    make_base(container, {"etc": None, "etc/app": None, "etc/app/x.conf": "the base's", "etc/app/y.conf": "y"})
    (container.folder / "added.tar").write_bytes(archive({"deep": ("", 0o711), "deep/added": "added"}))
    context = container.context(
        "FROM base AS built\nCOPY --chmod=600 x.conf /etc/app/\nADD added.tar /cache\nCOPY tree /cache/deep/tree\nWORKDIR /cache/deep/work\n"
        "WORKDIR /\nCOPY again /cache/deep/\nRUN busybox cat /etc/app/x.conf && busybox ls /cache/deep\n"
        "FROM base\nCOPY --from=built /etc/app /app\nCOPY --from=built /cache /cache\n",
        {"x.conf": "mine", "tree/a": "a", "again": "again"},
    )
    shutil.copy(container.folder / "added.tar", container.root / "kaniko/context/added.tar")
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
    assert container.log.count("no RUN sees it") == 2
    container.execute(context)
    assert container.code == 0, container.log
    app, cache = container.layers()[-2:]
    assert app.contents == {"app/x.conf": "mine", "app/y.conf": "y"}
    assert cache.contents == {"cache/deep/added": "added", "cache/deep/tree/a": "a", "cache/deep/again": "again"}
    assert conf.read_text() == "the cluster's"
    assert [path.name for path in volume.iterdir()] == ["kept"]


def test_one_layer_of_all_has_what_was_copied_onto_a_mount(container: Container) -> None:
    container.volume("cache/deep", {"kept": "kept"})
    make_base(container)
    layers = container.build(
        "FROM base\nCOPY file /cache/deep/file\nRUN echo >/ran\n", {"file": "file"}, "--single-snapshot"
    )
    assert set(layers[-1].entries) == {"cache", "cache/deep", "cache/deep/file", "ran"}


def test_what_a_command_writes_below_a_mount_is_told_once(container: Container) -> None:
    volume = container.volume("cache/deep", {"old": "old"})
    make_base(container)
    layers = container.build(
        "FROM base\nRUN busybox cat /cache/deep/old\nRUN echo new >/cache/deep/new; echo >/x\nRUN echo new >/cache/deep/newer; echo >/y\n"
    )
    assert [set(layer.entries) for layer in layers[-2:]] == [{"x"}, {"y"}]
    assert container.log.count("is not in the image") == 1
    assert '"/cache/deep/new" changed during RUN, and is not in the image: "/cache/deep" is mounted' in container.log
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
    hint = next(line for line in container.log.splitlines() if "no RUN can replace or remove" in line)
    assert '"/etc/app/x.conf"' in hint
    assert conf.read_text() == "the cluster's"


def test_a_command_that_fails_otherwise_gets_no_hint_of_mounts(container: Container) -> None:
    container.file("etc/app/x.conf", "x")
    make_base(container)
    container.execute(container.context("FROM base\nRUN busybox ls /etc/app/x.conf /nothing\n"))
    assert container.code != 0
    assert "no RUN can replace" not in container.log


def test_folders_on_the_way_to_a_mount_are_the_images_when_it_makes_them(container: Container) -> None:
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


def test_a_command_that_moves_a_mount_takes_it_out_of_no_volume_and_into_no_layer(container: Container) -> None:
    volume = container.volume("cache/deep", {"kept": "kept"})
    make_base(container, {"cache": None, "cache/file": "file"})
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


# --- contexts


def write_context(folder: Path, dockerfile: str) -> None:
    (folder / "below").mkdir(parents=True)
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "below/file").write_text("file")


SCAFFOLD = "FROM base\nWORKDIR /workspace\nCOPY below below\nRUN busybox ls -A >/seen && echo >made\n"


def test_a_context_of_the_container_is_moved_aside_and_back(container: Container) -> None:
    make_base(container)
    write_context(container.root / "workspace", SCAFFOLD)
    before = (container.root / "workspace/below/file").stat()
    for _ in range(2):  # the second build in one container finds it again
        container.execute("/workspace")
        assert container.code == 0, container.log
        work, copied, ran = container.layers()[-3:]
        assert set(work.entries) == {"workspace"}
        assert copied.contents == {"workspace/below/file": "file"}
        assert (ran.contents["seen"], ran.contents["workspace/made"]) == ("below\n", "\n")
        assert sorted(path.name for path in (container.root / "workspace").iterdir()) == ["Dockerfile", "below"]
        after = (container.root / "workspace/below/file").stat()
        assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def test_a_part_of_a_context_and_named_contexts_move_too(container: Container) -> None:
    make_base(container)
    write_context(
        container.root / "src/app",
        "FROM base\nCOPY . /src/app\nCOPY --from=other / /opt\nRUN busybox ls /src/app /opt\n",
    )
    write_context(container.root / "opt", "")
    container.execute("/src", "--context-sub-path=app", "--build-context=other=/opt")
    assert container.code == 0, container.log
    assert container.layers()[-1].contents == {"opt/below/file": "file", "opt/Dockerfile": ""}
    assert (container.root / "src/app/below/file").exists()
    assert sorted(path.name for path in (container.root / "opt").iterdir()) == ["Dockerfile", "below"]


def test_a_context_comes_back_after_a_failure(container: Container) -> None:
    make_base(container)
    write_context(container.root / "workspace", "FROM base\nCOPY below /workspace\nRUN busybox false\n")
    container.execute("/workspace")
    assert container.code != 0
    assert sorted(path.name for path in (container.root / "workspace").iterdir()) == ["Dockerfile", "below"]


def test_a_mounted_context_lets_copies_through(container: Container) -> None:
    make_base(container)
    volume = container.volume("workspace", {"Dockerfile": "", "below/file": "file"})
    (volume / "Dockerfile").write_text(
        "FROM base AS plain\nWORKDIR /workspace\nCOPY below below\nFROM plain\nWORKDIR /\nCOPY --from=plain /workspace /copied\n"
        "FROM base\nWORKDIR /workspace\nWORKDIR /\nRUN echo >/ran\nCOPY --from=plain /workspace /workspace\n"
    )
    container.execute("/workspace")
    assert container.code == 0, container.log
    work, ran, copied = container.layers()[-3:]
    assert set(work.entries) == {"workspace"}
    assert set(ran.entries) == {"ran"}
    assert copied.contents == {"workspace/below/file": "file"}
    assert sorted(path.name for path in volume.iterdir()) == ["Dockerfile", "below"]


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ("WORKDIR /workspace\nRUN echo\n", 'its working directory is "/workspace"'),
        ("WORKDIR /workspace/sub\nRUN echo\n", 'its working directory is "/workspace/sub"'),
        ("COPY below /workspace\nRUN echo\n", 'would not see what the image has in "/workspace"'),
        ("RUN busybox ls /workspace/below\n", 'it names "/workspace"'),
        ("RUN A=/workspace; echo $A\n", 'it names "/workspace"'),
        ("RUN <<EOF\necho >/workspace/x\nEOF\n", 'it names "/workspace"'),
    ],
)
def test_a_command_that_would_see_a_mounted_context_is_refused(container: Container, steps: str, why: str) -> None:
    make_base(container)
    volume = container.volume("workspace", {"Dockerfile": f"FROM base\n{steps}", "below/file": "file"})
    container.execute("/workspace")
    assert container.code != 0
    assert why in container.log
    assert 'the build context is, mounted at "/workspace"' in container.log
    assert "Mount the context at another path" in container.log
    assert sorted(path.name for path in volume.iterdir()) == ["Dockerfile", "below"]


def test_a_command_that_names_another_path_is_not_refused(container: Container) -> None:
    make_base(container)
    dockerfile = "FROM base\nRUN echo https://example.com/workspace /workspaces /a/workspace /workspace.d\n"
    container.volume("workspace", {"Dockerfile": dockerfile})
    container.execute("/workspace")
    assert container.code == 0, container.log


def test_a_command_in_a_folder_that_only_the_image_has_is_refused(container: Container) -> None:
    make_base(container)
    container.volume("cache/deep", {})
    container.execute(container.context("FROM base\nWORKDIR /cache/deep/work\nRUN echo\n"))
    assert container.code != 0
    assert 'cannot run a command in "/cache/deep/work": "/cache/deep" is mounted' in container.log
