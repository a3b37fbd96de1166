"""The commit that a build would be of, asked of a real git server as the operator's Pods ask: by the whole program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.git import GitServer, GitServerOptions

from imagewright.contract import REQUEST_ENV, RESULT_LOG_KEY
from imagewright.contract.request import BuildRequest, ContextSettings
from imagewright.contract.result import BuildResult
from imagewright.contract.sources import DirectorySource, GitSource
from imagewright.contract.sources import Source as AnySource
from imagewright.errors import Reason


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    options = GitServerOptions(tmp_path / "root", tmp_path / "state", username="me", password="hunter2")
    with GitServer(options) as server:
        yield server


def probe(source: AnySource, server: GitServer, tmp_path: Path) -> BuildResult:
    request = BuildRequest(context=ContextSettings(source=source), work_dir=str(tmp_path / "work"))
    environment = {
        "PATH": os.environ["PATH"],
        "SSL_CERT_FILE": str(server.ca_file),
        "GIT_USERNAME": "me",
        "GIT_PASSWORD": "hunter2",
        REQUEST_ENV: request.encode(),
    }
    command = [sys.executable, "-m", "imagewright", "probe"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    assert "hunter2" not in done.stdout
    last = done.stdout.splitlines()[-1]
    result = BuildResult.parse(last.removeprefix(f'{{"{RESULT_LOG_KEY}":').removesuffix("}"))
    assert result is not None, last
    assert done.returncode == 0 or result.failure is not None
    assert not list((tmp_path / "work").glob("*"))
    return result


def test_it_is_the_commit_that_a_build_would_check_out(server: GitServer, tmp_path: Path) -> None:
    repository = server.repository("app.git")
    first = repository.commit({"a": "1"})
    second = repository.commit({"a": "2"})
    other = repository.commit({"a": "3"}, branch="other")
    repository.tag("v1", first, annotated=True)
    repository.tag("v2", first)
    url = server.url("app.git")
    for source, commit in (
        (GitSource(url=url), second),
        (GitSource(url=url, ref="other", ref_type="branch"), other),
        (GitSource(url=url, ref="v1", ref_type="tag"), first),
        (GitSource(url=url, ref="v2"), first),
        (GitSource(url=url, ref="refs/heads/main"), second),
        (GitSource(url=url, commit=first), first),
    ):
        result = probe(source, server, tmp_path)
        assert result.source.commit == commit, source
        assert not result.digest
    # Nothing is fetched but the list of what there is.
    assert {path.rpartition("/")[2] for path in (r.path.partition("?")[0] for r in server.requests)} <= {
        "refs",
        "git-upload-pack",
    }


def test_failed_probe_has_a_reason(server: GitServer, tmp_path: Path) -> None:
    server.repository("app.git").commit({"a": "1"})
    missing = probe(GitSource(url=server.url("app.git"), ref="none"), server, tmp_path).failure
    assert missing is not None
    assert missing.reason == Reason.GIT_REVISION_NOT_FOUND
    nowhere = probe(GitSource(url=server.url("none.git")), server, tmp_path).failure
    assert nowhere is not None
    assert nowhere.reason == Reason.GIT_REPOSITORY_NOT_FOUND
    folder = probe(DirectorySource(path=str(tmp_path)), server, tmp_path).failure
    assert folder is not None
    assert folder.reason == Reason.NOT_SUPPORTED
