"""The root sandbox with a context at a path of the image: it is moved aside, or the image still has all its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from containers.container import Container, layers_of, make_base

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")]


def write_context(folder: Path, dockerfile: str) -> None:
    (folder / "below").mkdir(parents=True)
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "below/file").write_text("file")


SCAFFOLD = "FROM base\nWORKDIR /workspace\nCOPY below below\nRUN busybox ls -A >/seen && echo >made\n"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["one file system", "another file system"])
def test_a_context_in_the_container_is_moved_aside_and_back(container: Container, elsewhere: bool) -> None:
    make_base(container)
    if elsewhere:
        container.volume("scratch", {})
    write_context(container.root / "workspace", SCAFFOLD)
    before = [(container.root / name).stat() for name in ("workspace", "workspace/below", "workspace/below/file")]
    for _ in range(2):  # the second build in one container finds it again
        container.execute("/workspace", *(["--work-dir=/scratch"] if elsewhere else []))
        assert container.code == 0, container.log
        work, copied, ran = container.layers()[-3:]
        assert set(work.entries) == {"workspace"}
        assert copied.contents == {"workspace/below/file": "file"}
        assert (ran.contents["seen"], ran.contents["workspace/made"]) == ("below\n", "\n")
        assert sorted(path.name for path in (container.root / "workspace").iterdir()) == ["Dockerfile", "below"]
        after = [(container.root / name).stat() for name in ("workspace", "workspace/below", "workspace/below/file")]
        assert [(s.st_mode, s.st_mtime_ns) for s in after] == [(s.st_mode, s.st_mtime_ns) for s in before]


def test_outputs_in_a_context_are_moved_back_with_it(container: Container) -> None:
    make_base(container)
    write_context(container.root / "workspace", SCAFFOLD)
    container.execute(
        "/workspace", "--digest-file=/workspace/digest", "--result-file=/workspace/out/result",
        "--oci-layout-path=/workspace/out/layout",
    )  # fmt: skip
    assert container.code == 0, container.log
    assert (container.root / "workspace/digest").read_text() in (container.root / "workspace/out/result").read_text()
    assert layers_of(container.root / "workspace/out/layout")[-1].contents["workspace/made"] == "\n"
    assert {path.name for path in (container.root / "workspace").iterdir()} == {"Dockerfile", "below", "digest", "out"}


def test_context_subdirectories_and_named_contexts_are_moved(container: Container) -> None:
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


def test_a_context_is_moved_back_after_a_failure(container: Container) -> None:
    make_base(container)
    write_context(container.root / "workspace", "FROM base\nCOPY below /workspace\nRUN busybox false\n")
    container.execute("/workspace")
    assert container.code != 0
    assert sorted(path.name for path in (container.root / "workspace").iterdir()) == ["Dockerfile", "below"]


def test_a_context_is_moved_back_next_to_a_mount_linked_there(container: Container) -> None:
    token = container.volume("var/run/secrets/token", {"token": "secret"})
    make_base(container, {"var": 0o755, "var/run": "-> /workspace/run"})
    write_context(container.root / "workspace", "FROM base\nRUN busybox cat /workspace/run/secrets/token/token\n")
    container.execute("/workspace")
    assert container.code == 0, container.log
    assert "| secret" in container.log
    assert (token / "token").read_text() == "secret"
    assert sorted(path.name for path in (container.root / "workspace").iterdir()) == ["Dockerfile", "below", "run"]


def test_copies_onto_a_mounted_context_reach_the_image(container: Container) -> None:
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
        ("WORKDIR /workspace\nRUN echo\n", 'its working directory "/workspace" is in "/workspace"'),
        ("WORKDIR /workspace/sub\nRUN echo\n", 'its working directory "/workspace/sub" is in "/workspace"'),
        ("COPY below /workspace\nRUN echo\n", 'would not see the image\'s files in "/workspace"'),
        ("RUN busybox ls /workspace/below\n", 'it mentions "/workspace"'),
        ("RUN A=/workspace; echo $A\n", 'it mentions "/workspace"'),
        ("RUN <<EOF\necho >/workspace/x\nEOF\n", 'it mentions "/workspace"'),
    ],
)
def test_a_command_that_would_see_a_mounted_context_is_refused(container: Container, steps: str, why: str) -> None:
    make_base(container)
    volume = container.volume("workspace", {"Dockerfile": f"FROM base\n{steps}", "below/file": "file"})
    container.execute("/workspace")
    assert container.code != 0
    assert why in container.log
    assert ", where the build context is mounted" in container.log
    assert "Mount the context at another path" in container.log
    assert sorted(path.name for path in volume.iterdir()) == ["Dockerfile", "below"]


def test_a_command_that_mentions_another_path_is_not_refused(container: Container) -> None:
    make_base(container)
    dockerfile = "FROM base\nRUN echo https://example.com/workspace /workspaces /a/workspace /workspace.d\n"
    container.volume("workspace", {"Dockerfile": dockerfile})
    container.execute("/workspace")
    assert container.code == 0, container.log


def test_a_command_in_a_folder_missing_from_a_mount_is_refused(container: Container) -> None:
    make_base(container)
    container.volume("cache/deep", {})
    container.execute(container.context("FROM base\nWORKDIR /cache/deep/work\nRUN echo\n"))
    assert container.code != 0
    assert 'cannot run a command in "/cache/deep/work": the folder does not exist in "/cache/deep"' in container.log
