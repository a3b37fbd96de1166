"""Git sources over ssh, against a real OpenSSH server: the Secret's key, the server's key, and what is missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from servers.repository import Repository
from servers.ssh import SshServer

from imagewright.context.job import FetchedContext
from imagewright.contract.sources import GitSource
from imagewright.errors import Reason, SourceError

Fetch = Callable[..., FetchedContext]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository.create(tmp_path / "app.git")
    repository.commit({"a": "0"})
    repository.commit({"a": "1"})
    return repository


@pytest.fixture
def fetch(fetch: Fetch, tmp_path: Path) -> Fetch:
    """Fetch a URL with a mounted Secret."""

    def run(url: str, secret: dict[str, bytes], mode: int = 0o400) -> FetchedContext:
        folder = tmp_path / "secret folder"
        folder.mkdir()
        for name, value in secret.items():
            (folder / name).write_bytes(value)
            (folder / name).chmod(mode)
        return fetch(GitSource(url=url, credentials_dir=str(folder)), {"PATH": os.environ["PATH"]})

    return run


@pytest.mark.parametrize("mode", [0o400, 0o440], ids=["for its owner", "for a group, as mounted for an ordinary user"])
def test_the_secret_s_key(ssh: SshServer, repository: Repository, fetch: Fetch, mode: int) -> None:
    secret = {"identity": ssh.identity, "known_hosts": ssh.known_hosts.encode()}
    context = fetch(ssh.url(repository.path), secret, mode)
    assert context.commit == repository.git("rev-parse", "main")
    assert Path(context.path, "a").read_text() == "1"


def test_key_without_a_final_line_break(ssh: SshServer, repository: Repository, fetch: Fetch) -> None:
    secret = {"identity": ssh.identity.rstrip(), "known_hosts": ssh.known_hosts.encode()}
    assert fetch(ssh.url(repository.path), secret).commit


def test_key_unknown_to_the_server(ssh: SshServer, repository: Repository, fetch: Fetch) -> None:
    secret = {"identity": ssh.stranger, "known_hosts": ssh.known_hosts.encode()}
    with pytest.raises(SourceError) as caught:
        fetch(ssh.url(repository.path), secret)
    assert caught.value.reason is Reason.GIT_AUTH_FAILED
    assert "refused the ssh key" in caught.value.message


def test_invalid_key(ssh: SshServer, repository: Repository, fetch: Fetch) -> None:
    secret = {"identity": b"-----BEGIN NONSENSE-----\n", "known_hosts": ssh.known_hosts.encode()}
    with pytest.raises(SourceError) as caught:
        fetch(ssh.url(repository.path), secret)
    assert caught.value.reason is Reason.GIT_AUTH_FAILED
    assert "NONSENSE" not in caught.value.render()


@pytest.mark.parametrize("another", [True, False], ids=["another one is known", "none is known"])
def test_unknown_host_key(ssh: SshServer, repository: Repository, fetch: Fetch, tmp_path: Path, another: bool) -> None:
    known = ssh.known_hosts.replace(ssh.known_hosts.split()[2], _other_key(tmp_path)) if another else ""
    with pytest.raises(SourceError) as caught:
        fetch(ssh.url(repository.path), {"identity": ssh.identity, "known_hosts": known.encode()})
    assert caught.value.reason is Reason.GIT_AUTH_FAILED
    assert "ssh-keyscan" in caught.value.hint


def test_no_such_repository(ssh: SshServer, fetch: Fetch, tmp_path: Path) -> None:
    secret = {"identity": ssh.identity, "known_hosts": ssh.known_hosts.encode()}
    with pytest.raises(SourceError) as caught:
        fetch(ssh.url(tmp_path / "nope.git"), secret)
    assert caught.value.reason is Reason.GIT_REPOSITORY_NOT_FOUND


def test_nobody_listens(ssh: SshServer, fetch: Fetch) -> None:
    secret = {"identity": ssh.identity, "known_hosts": ssh.known_hosts.encode()}
    with pytest.raises(SourceError) as caught:
        fetch("ssh://git@127.0.0.1:1/app.git", secret)
    assert caught.value.reason is Reason.SOURCE_UNREACHABLE


def _other_key(folder: Path) -> str:
    import subprocess

    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "other")], check=True)
    return (folder / "other.pub").read_text().split()[1]
