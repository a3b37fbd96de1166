"""Remote sources of ADD against real servers: logins, .git folders, submodules, keys."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from archives.tars import Item, directory, make_tar
from peers.flatten import Layout, describe
from servers.git import GitServer, GitServerOptions
from servers.repository import Link, Repository, Submodule
from servers.scripted import Answer, ScriptedServer
from servers.ssh import SshServer

from imagewright.contract.request import SshSource
from imagewright.engine.source.remotes import Remotes
from imagewright.engine.source.sshagents import SshAgents
from imagewright.errors import Reason, SourceError, UsageError
from imagewright.plan.remote import GitRemote, UrlSource, parse_remote

LOG: list[str] = []


def server(tmp_path: Path, **options: object) -> GitServer:
    root = tmp_path / "repositories"
    root.mkdir(exist_ok=True)
    return GitServer(GitServerOptions(root, tmp_path / "server", ("127.0.0.1",), tls=False, **options))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "fetched"
    path.mkdir()
    return path


def remotes(
    tmp_path: Path,
    secrets: Mapping[str, bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    ssh: tuple[SshSource, ...] = (),
) -> Remotes:
    LOG.clear()
    agents = SshAgents(str(tmp_path / "agents"), ssh)
    around = {"PATH": os.environ["PATH"], **(environment or {})}
    return Remotes(str(tmp_path), around, secrets or {}, agents, LOG.append, threading.Event())


def git_remote(text: str) -> GitRemote:
    remote = parse_remote(text)
    assert isinstance(remote, GitRemote)
    return remote


def everything(root: str | Path) -> set[str]:
    return {str(path.relative_to(root)) for path in Path(root).rglob("*")}


def git(folder: str, *words: str) -> str:
    command = ["git", "-c", "safe.directory=*", "-C", folder, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_checkout_has_no_git_folder(tmp_path: Path, folder: Path) -> None:
    with server(tmp_path) as here:
        here.repository("a.git").commit({"x": "1", "sub/y": "2", "link": Link("x")})
        path = remotes(tmp_path).checkout(git_remote(here.url("a.git")), str(folder)).path
    assert everything(path) == {"x", "sub", "sub/y", "link"}


@pytest.mark.parametrize("where", ["", "#main", "#light", "#heavy", "?tag=heavy", "?branch=main"])
def test_a_kept_git_folder_is_a_clean_checkout(tmp_path: Path, folder: Path, where: str) -> None:
    with server(tmp_path) as here:
        repository = here.repository("a.git")
        repository.commit({"x": "0"})
        commit = repository.commit({"x": "1"})
        repository.tag("light", commit)
        repository.tag("heavy", commit, annotated=True)
        joined = "&" if "?" in where else "?"
        base, _, fragment = where.partition("#")
        text = f"{here.url('a.git', login='me:secret')}{base}{joined}keep-git-dir" + f"#{fragment}" * bool(fragment)
        path = remotes(tmp_path).checkout(git_remote(text), str(folder)).path
        assert git(path, "rev-parse", "HEAD") == commit
        assert git(path, "status", "--porcelain") == ""
        assert git(path, "remote", "get-url", "origin") == here.url("a.git")
        ref = {"": "refs/heads/main", "main": "refs/heads/main"}.get(where.partition("=")[2] or fragment, "")
        ref = ref or f"refs/tags/{where.partition('=')[2] or fragment}"
        assert git(path, "for-each-ref", "--format=%(refname)") == ref
    assert len(git(path, "rev-list", "HEAD").split()) == 1, "history is not part of it"
    assert "secret" not in "".join(p.read_text("latin-1") for p in Path(path, ".git").rglob("*") if p.is_file())
    assert not [name for name in everything(path) if name.startswith((".git/hooks", ".git/FETCH_HEAD"))]


def test_the_checksum_can_be_a_prefix_of_the_hash(tmp_path: Path, folder: Path) -> None:
    with server(tmp_path) as here:
        repository = here.repository("a.git")
        commit = repository.commit({"x": "1"})
        repository.tag("heavy", commit, annotated=True)
        tag = repository.git("rev-parse", "heavy")
        for number, checksum in enumerate((commit, commit[:7], tag[:7])):
            below = folder / str(number)
            below.mkdir()
            remotes(tmp_path).checkout(git_remote(f"{here.url('a.git')}?checksum={checksum}#heavy"), str(below))
        with pytest.raises(SourceError, match=f"commit {commit} does not start with") as caught:
            remotes(tmp_path).checkout(git_remote(f"{here.url('a.git')}?checksum=0000000#heavy"), str(folder))
    assert caught.value.reason is Reason.GIT_REVISION_NOT_FOUND


def test_a_commit_is_fetched_after_its_branch_has_moved(tmp_path: Path, folder: Path) -> None:
    with server(tmp_path) as here:
        repository = here.repository("a.git")
        commit = repository.commit({"x": "old"})
        repository.commit({"x": "new"})
        text = f"{here.url('a.git')}?fetch-by-commit&checksum={commit}#main"
        path = remotes(tmp_path).checkout(git_remote(text), str(folder)).path
        assert Path(path, "x").read_text() == "old"


@pytest.mark.parametrize("wanted", [True, False])
def test_submodules_can_be_left_out(tmp_path: Path, folder: Path, *, wanted: bool) -> None:
    with server(tmp_path) as here:
        commit = here.repository("sub.git").commit({"y": "2"})
        here.repository("a.git").commit({"x": "1", "sub": Submodule("../sub.git", commit)})
        path = remotes(tmp_path).checkout(git_remote(f"{here.url('a.git')}?submodules={wanted}"), str(folder)).path
    assert ("sub/y" in everything(path)) is wanted


def test_files_get_the_commits_time_on_request(tmp_path: Path, folder: Path) -> None:
    with server(tmp_path) as here:
        here.repository("a.git").commit({"x": "1", "sub/y": "2", "link": Link("sub")})
        path = remotes(tmp_path).checkout(git_remote(f"{here.url('a.git')}?mtime=commit"), str(folder)).path
    assert {Path(path, name).lstat().st_mtime for name in everything(path)} == {1767225600}


@pytest.mark.parametrize(
    "secrets",
    [
        {"GIT_AUTH_TOKEN": b"t0ken\n"},
        {"GIT_AUTH_TOKEN.127.0.0.1": b"t0ken", "GIT_AUTH_TOKEN": b"for others"},
        {"GIT_AUTH_HEADER": b"basic eC1hY2Nlc3MtdG9rZW46dDBrZW4="},
    ],
    ids=["for all", "for the host", "a header"],
)
def test_a_secret_is_the_login_for_a_repository(tmp_path: Path, folder: Path, secrets: dict[str, bytes]) -> None:
    with server(tmp_path, username="x-access-token", password="t0ken") as here:
        here.repository("a.git").commit({"x": "1"})
        path = remotes(tmp_path, secrets).checkout(git_remote(here.url("a.git")), str(folder)).path
        assert Path(path, "x").read_text() == "1"
    assert "t0ken" not in " ".join(LOG)


def test_a_bearer_header(tmp_path: Path, folder: Path) -> None:
    with server(tmp_path, bearer="t0ken") as here:
        here.repository("a.git").commit({"x": "1"})
        remotes(tmp_path, {"GIT_AUTH_HEADER": b"bearer t0ken"}).checkout(git_remote(here.url("a.git")), str(folder))


def test_the_login_of_the_context_is_not_sent(tmp_path: Path, folder: Path) -> None:
    with server(tmp_path, username="me", password="secret") as here:
        here.repository("a.git").commit({"x": "1"})
        environment = {"GIT_USERNAME": "me", "GIT_PASSWORD": "secret", "GIT_TOKEN": "secret"}
        with pytest.raises(SourceError) as caught:
            remotes(tmp_path, environment=environment).checkout(git_remote(here.url("a.git")), str(folder))
        assert not [asked for asked in here.requests if asked.authorization]
    assert caught.value.reason is Reason.GIT_AUTH_FAILED
    assert "GIT_AUTH_TOKEN.127.0.0.1" in caught.value.hint


@pytest.mark.parametrize("header", [b"basic !", b"basic bm90aGluZw==", b"digest x", b"two\nlines"])
def test_an_invalid_login(tmp_path: Path, folder: Path, header: bytes) -> None:
    with pytest.raises(UsageError, match='invalid secret "GIT_AUTH_HEADER"'):
        remotes(tmp_path, {"GIT_AUTH_HEADER": header}).checkout(git_remote("https://localhost/a.git"), str(folder))


@pytest.mark.parametrize(
    ("secrets", "sent"),
    [
        ({"HTTP_AUTH_TOKEN_127.0.0.1": b"t0ken\n"}, "Bearer t0ken"),
        ({"HTTP_AUTH_HEADER_127.0.0.1": b"Basic abc"}, "Basic abc"),
        ({"HTTP_AUTH_TOKEN_example.com": b"t0ken"}, ""),
    ],
)
def test_a_secret_is_the_login_for_a_file(tmp_path: Path, folder: Path, secrets: dict[str, bytes], sent: str) -> None:
    with ScriptedServer(lambda asked: Answer(200, {}, b"text")) as here:
        remotes(tmp_path, secrets).file(UrlSource(f"http://{here.host}/a", "a"), str(folder))
        assert [asked.authorization for asked in here.asked] == [sent]
    assert (folder / "a").read_bytes() == b"text"
    assert "t0ken" not in " ".join(LOG)


def by_ssh(ssh: SshServer, tmp_path: Path, folder: Path, secrets: Mapping[str, bytes], key: bytes | None) -> str:
    repository = Repository.create(tmp_path / "a.git")
    repository.commit({"x": "1"})
    path = tmp_path / "key"
    path.write_bytes(key or b"")
    path.chmod(0o600)
    given = (SshSource(id="default", paths=(str(path),)),) if key else ()
    # The user's own agent is not the build's.
    environment = {"SSH_AUTH_SOCK": str(tmp_path / "own"), "HOME": str(tmp_path)}
    fetching = remotes(tmp_path, secrets, environment, given)
    try:
        return fetching.checkout(git_remote(ssh.url(repository.path)), str(folder)).path
    finally:
        fetching.agents.close()


def test_ssh_with_a_key_and_a_known_host(ssh: SshServer, tmp_path: Path, folder: Path) -> None:
    path = by_ssh(ssh, tmp_path, folder, {"GIT_KNOWN_HOSTS": ssh.known_hosts.encode()}, ssh.identity)
    assert Path(path, "x").read_text() == "1"


def test_ssh_to_an_unknown_host_fails(ssh: SshServer, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(SourceError) as caught:
        by_ssh(ssh, tmp_path, folder, {}, ssh.identity)
    assert caught.value.reason is Reason.GIT_AUTH_FAILED
    assert "GIT_KNOWN_HOSTS" in caught.value.hint


@pytest.mark.parametrize("stranger", [True, False])
def test_ssh_without_an_accepted_key_fails(ssh: SshServer, tmp_path: Path, folder: Path, *, stranger: bool) -> None:
    with pytest.raises(SourceError) as caught:
        by_ssh(
            ssh,
            tmp_path,
            folder,
            {"GIT_KNOWN_HOSTS": ssh.known_hosts.encode()},
            ssh.stranger if stranger else None,
        )
    assert caught.value.reason is Reason.GIT_AUTH_FAILED
    assert "--ssh default" in caught.value.hint


def tar(*times: int) -> bytes:
    files = (Item(f"file{number}", mtime=moment) for number, moment in enumerate(times))
    return gzip.compress(make_tar(*files, directory("folder", mtime=2_000_000_000)))


@pytest.mark.parametrize(
    ("headers", "body", "time_s"),
    [
        ({"Last-Modified": "Sat, 03 Feb 2001 04:05:06 GMT"}, tar(1_500_000_000), 981173106),
        ({}, tar(1_400_000_000, 1_500_000_000, 0), 1_500_000_000),
        ({}, b"text", None),
    ],
    ids=["as the server says", "the newest file of an archive", "none"],
)
def test_the_time_of_a_file(tmp_path: Path, headers: dict[str, str], body: bytes, time_s: int | None) -> None:
    with ScriptedServer(lambda asked: Answer(200, headers, body)) as here:
        assert remotes(tmp_path).time_of(UrlSource(f"http://{here.host}/a", "a")) == time_s
    assert not list(tmp_path.glob("time-*"))


def test_the_time_of_a_commit(tmp_path: Path) -> None:
    with server(tmp_path) as here:
        here.repository("a.git").commit({"x": "1"})
        assert remotes(tmp_path).time_of(git_remote(here.url("a.git"))) == 1767225600


def test_a_named_context_from_a_url_is_one_file(tmp_path: Path) -> None:
    """As in BuildKit (frontend/dockerui, named contexts) the file is named ``context`` and not unpacked."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/Dockerfile").write_text("FROM scratch\nCOPY --from=data context /data.tar.gz\n")
    command = [sys.executable, "-m", "imagewright", "build", f"--context={tmp_path / 'source'}", "--no-push"]
    command += [f"--oci-layout-path={tmp_path / 'layout'}", f"--work-dir={tmp_path / 'work'}"]
    with ScriptedServer(lambda asked: Answer(200, {}, tar(0))) as here:
        command.append(f"--build-context=data=http://{here.host}/some.tar.gz")
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert describe(Layout(tmp_path / "layout"), 0).splitlines()[1].startswith("  /data.tar.gz file 0600 0:0 ")
