"""In the one-container ``root`` sandbox an image takes the place of the programs that the engine starts: none of the
image's is given a login.

The image's programs are data: ``tests/hostile/base-programs.json``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers.container import HOST, Container, empty_container, make_base
from containers.programs import hostile_files
from servers.git import GitServer, GitServerOptions

pytestmark = [pytest.mark.root]
TOKEN = "token-of-the-repository"


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """The machine's programs are in it as the executor image has its own, and are found as there: the image's first."""
    made = empty_container(tmp_path / "container")
    make_base(made)
    (made.root / "lib64").mkdir()
    for loader in Path("/lib64").glob("ld-*"):
        (made.root / "lib64" / loader.name).symlink_to(HOST + os.path.realpath(loader))
    for name in ("ssh-agent", "ssh-add"):  # without a group of their own, for which the loader ignores LD_LIBRARY_PATH
        (made.root / "imagewright/bin").mkdir(exist_ok=True)
        shutil.copy(str(shutil.which(name)), made.root / "imagewright/bin")
    libraries = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    made.variables = {
        "PATH": f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/imagewright/bin:{HOST}/usr/bin",
        "LD_LIBRARY_PATH": f"{HOST}/usr/lib/{libraries}",
        "GIT_EXEC_PATH": f"{HOST}/usr/lib/git-core",
    }
    return made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    options = GitServerOptions(tmp_path / "repositories", tmp_path / "server", ("127.0.0.1",), tls=False, bearer=TOKEN)
    with GitServer(options) as made:
        made.repository("repo.git").commit({"file": "of the repository\n"})
        yield made


def test_no_program_of_the_image_gets_a_login(container: Container, server: GitServer, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", container.root / "kaniko/key"], check=True)
    (container.root / "kaniko/header").write_text(f"bearer {TOKEN}")
    context = container.context(
        "FROM base AS hostile\nCOPY hostile /\nRUN ! find / -name bearerToken -not -path '/proc/*' | grep .\n"
        f"ADD {server.url('repo.git')} /src\n"
        "RUN --mount=type=ssh test -S $SSH_AUTH_SOCK && cp /src/file /seen\n"
    )
    hostile = container.root / "kaniko/context/hostile"
    hostile_files(hostile)
    shutil.copytree(os.path.realpath("/lib64"), hostile / "lib64")  # the loader that starts programs with the library
    container.execute(context, "--secret=id=GIT_AUTH_HEADER,src=/kaniko/header", "--ssh=default=/kaniko/key")
    stolen = container.root / "kaniko/stolen"
    assert not stolen.exists() or stolen.read_text() == ""
    assert container.code == 0, container.log
    assert container.layers()[-1].contents == {"seen": "of the repository\n"}


def test_a_repository_that_cannot_be_fetched_is_reported_at_its_instruction(container: Container) -> None:
    container.execute(container.context("FROM base\nRUN true\nADD http://127.0.0.1:1/repo.git /src\n"))
    assert "--> Dockerfile:3" in container.log
    assert "RUN true" not in container.log.partition("error:")[0], "before anything replaces the programs"


def test_an_agent_that_a_run_ended_is_named(container: Container) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", container.root / "kaniko/key"], check=True)
    mount = "RUN --mount=type=ssh test -S $SSH_AUTH_SOCK\n"
    container.execute(
        container.context(f"FROM base\n{mount}RUN kill -TERM -1; true\n{mount}"), "--ssh=default=/kaniko/key"
    )
    assert container.code == 8, container.log
    assert "--> Dockerfile:4" in container.log
    assert "cannot connect to the agent of --ssh default: it has ended" in container.log
