"""Git sources against a real git server: revisions, logins, certificates, submodules, and what hostile ones try."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from servers.git import GitServer, GitServerOptions
from servers.repository import Link, Repository, Submodule

from imagewright.context.job import FetchedContext
from imagewright.contract.coding import read
from imagewright.contract.sources import GitSource
from imagewright.errors import Reason, SourceError

PASSWORD = "correct horse/battery%20staple"
Serve = Callable[..., GitServer]
Fetch = Callable[..., FetchedContext]
Secret = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a server; all end with the test."""
    with ExitStack() as stack:
        count = 0

        def start(**options: Any) -> GitServer:
            nonlocal count
            count += 1
            place = tmp_path / f"server-{count}"
            return stack.enter_context(
                GitServer(GitServerOptions(root=place / "root", state=place / "state", **options))
            )

        yield start


@pytest.fixture
def fetch(fetch: Fetch) -> Fetch:
    """Fetch in an environment that holds PATH, the server's CA and what is given."""

    def run(
        source: GitSource, server: GitServer | None = None, log: list[str] | None = None, **environment: str
    ) -> FetchedContext:
        env = {"PATH": os.environ["PATH"], **({"SSL_CERT_FILE": str(server.ca_file)} if server else {}), **environment}
        return fetch(source, env, log)

    return run


def refused(fetch: Fetch, source: GitSource, server: GitServer | None = None, **environment: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        fetch(source, server, **environment)
    return caught.value


def files(context: FetchedContext) -> set[str]:
    root = Path(context.path)
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


class TestRevisions:
    def test_the_remote_s_head_shallow(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        repository = server.repository("app.git")
        repository.commit({"old": "1"})
        commit = repository.commit({"Dockerfile": "FROM scratch\n", "src/main.go": "package main\n"})
        log: list[str] = []
        context = fetch(GitSource(url=server.url("app.git")), server, log)
        assert context.commit == commit
        assert files(context) == {"Dockerfile", "src/main.go"}
        assert log == [f"fetching {server.url('app.git')}", f"at commit {commit}"]

    def test_kaniko_s_pull_method(self, serve: Serve, fetch: Fetch) -> None:
        server = serve(tls=False)
        commit = server.repository("app.git").commit({"a": ""})
        source = GitSource(url=server.url("app.git").replace("http://", "git://"))
        assert fetch(source, GIT_PULL_METHOD="http").commit == commit
        assert refused(fetch, source, GIT_PULL_METHOD="file").reason is Reason.USAGE_INVALID

    def test_lfs_pointers_are_warned_of(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        attributes = "*.bin filter=lfs diff=lfs -text\n"
        module = server.repository("module.git").commit({".gitattributes": attributes, "c.bin": "version …"})
        server.repository("app.git").commit(
            {
                "deep/.gitattributes": attributes,
                "deep/a.bin": "version …",
                "deep/b.bin": "version …",
                "d.bin": "content",
                "module": Submodule("../module.git", module),
            }
        )
        log: list[str] = []
        fetch(GitSource(url=server.url("app.git"), submodules=True), server, log)
        first, second = (line for line in log if "Git LFS" in line)
        assert f"deep/a.bin and 1 more of {server.url('app.git')}" in first
        assert f"c.bin of {server.url('module.git')}" in second
        log.clear()
        server.repository("none.git").commit({"d.bin": "content", ".gitattributes": "*.x filter=lfs\n"})
        fetch(GitSource(url=server.url("none.git")), server, log)
        assert not [line for line in log if "LFS" in line]

    def test_git_scheme_means_https(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        commit = server.repository("app.git").commit({"a": ""})
        assert fetch(GitSource(url=server.url("app.git").replace("https://", "git://")), server).commit == commit

    def test_branch_tag_and_full_name(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        repository = server.repository("app.git")
        first = repository.commit({"a": "1"})
        second = repository.commit({"a": "2"})
        other = repository.commit({"b": "3"}, branch="feature/x")
        repository.tag("v1", first, annotated=True)
        repository.tag("v2", second)
        repository.git("update-ref", "refs/pull/7/head", other)
        url = server.url("app.git")
        for ref, commit in {"main": second, "feature/x": other, "v1": first, "v2": second, "refs/pull/7/head": other,
                            "refs/tags/v1": first}.items():  # fmt: skip
            assert fetch(GitSource(url=url, ref=ref), server).commit == commit, ref

    def test_branch_and_tag_of_the_same_name(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        repository = server.repository("app.git")
        tagged = repository.commit({"a": "1"})
        head = repository.commit({"a": "2"}, branch="same")
        repository.git("update-ref", "refs/tags/same", tagged)
        url = server.url("app.git")
        assert fetch(GitSource(url=url, ref="same"), server).commit == head
        assert fetch(GitSource(url=url, ref="same", ref_type="branch"), server).commit == head
        assert fetch(GitSource(url=url, ref="same", ref_type="tag"), server).commit == tagged

    @pytest.mark.parametrize("modern", [True, False], ids=["any commit is given", "only tips are given"])
    @pytest.mark.parametrize("ref", ["", "main"])
    def test_commit_that_no_ref_points_at(self, serve: Serve, fetch: Fetch, modern: bool, ref: str) -> None:
        server = serve(protocol_v2=modern)
        repository = server.repository("app.git")
        repository.commit({"a": "0"})
        wanted = repository.commit({"a": "1"})
        repository.commit({"a": "2"})
        context = fetch(GitSource(url=server.url("app.git"), ref=ref, commit=wanted), server)
        assert context.commit == wanted
        assert Path(context.path, "a").read_text() == "1"

    @pytest.mark.parametrize("ref", ["", "main", "commit"])
    def test_a_repository_of_sha_256(self, serve: Serve, fetch: Fetch, ref: str) -> None:
        server = serve()
        commit = Repository.create(server.options.root / "app.git", "sha256").commit({"a": "1"})
        assert len(commit) == 64
        source = GitSource(url=server.url("app.git"), ref=commit if ref == "commit" else ref)
        assert fetch(source, server).commit == commit

    def test_commit_in_place_of_a_ref(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        repository = server.repository("app.git")
        wanted = repository.commit({"a": "1"})
        repository.commit({"a": "2"})
        assert fetch(GitSource(url=server.url("app.git"), ref=wanted), server).commit == wanted

    @pytest.mark.parametrize("modern", [True, False])
    def test_missing_commit(self, serve: Serve, fetch: Fetch, modern: bool) -> None:
        server = serve(protocol_v2=modern)
        server.repository("app.git").commit({"a": "1"})
        error = refused(fetch, GitSource(url=server.url("app.git"), commit="1" * 40), server)
        assert error.reason is Reason.GIT_REVISION_NOT_FOUND

    @pytest.mark.parametrize("kind", ["any", "branch", "tag"])
    def test_missing_ref(self, serve: Serve, fetch: Fetch, kind: str) -> None:
        server = serve()
        server.repository("app.git").commit({"a": "1"})
        error = refused(fetch, read(GitSource, {"url": server.url("app.git"), "ref": "nope", "refType": kind}), server)
        assert error.reason is Reason.GIT_REVISION_NOT_FOUND
        assert '"nope"' in error.message
        assert error.hint

    def test_the_folder(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        server.repository("app.git").commit({"a": "1", "deep/er/b": "2"})
        context = fetch(GitSource(url=server.url("app.git"), subdir="deep/er/"), server)
        assert files(context) == {"b"}

    def test_modes_don_t_depend_on_the_umask(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        server.repository("app.git").commit({"folder/file": "1"})
        previous = os.umask(0o077)
        try:
            context = fetch(GitSource(url=server.url("app.git")), server)
        finally:
            os.umask(previous)
        for name, mode in {"": 0o755, "folder": 0o755, "folder/file": 0o644}.items():
            assert stat.S_IMODE(os.stat(os.path.join(context.path, name)).st_mode) == mode, name

    def test_server_without_shallow_clones(self, fetch: Fetch, tmp_path: Path) -> None:
        """Plain files behind a web server: git calls it the dumb protocol."""
        repository = Repository.create(tmp_path / "www" / "app.git")
        repository.commit({"a": "0"})
        commit = repository.commit({"a": "1"})
        repository.git("update-server-info")
        with _file_server(tmp_path / "www") as port:
            assert fetch(GitSource(url=f"http://127.0.0.1:{port}/app.git", ref="main")).commit == commit

    def test_work_directory_holds_only_the_checkout(self, serve: Serve, fetch: Fetch, tmp_path: Path) -> None:
        server = serve()
        server.repository("app.git").commit({"a": "1"})
        fetch(GitSource(url=server.url("app.git")), server)
        assert os.listdir(tmp_path / "work directory 1") == ["git"]
        assert os.listdir(tmp_path / "work directory 1" / "git") == ["a"]


class TestLogin:
    @pytest.fixture
    def private(self, serve: Serve) -> GitServer:
        server = serve(username="us@er", password=PASSWORD)
        server.repository("app.git").commit({"a": "1"})
        return server

    def test_variables(self, private: GitServer, fetch: Fetch) -> None:
        fetch(GitSource(url=private.url("app.git")), private, GIT_USERNAME="us@er", GIT_PASSWORD=PASSWORD)

    def test_mounted_secret(self, private: GitServer, fetch: Fetch, secret: Secret) -> None:
        folder = secret(username="us@er", password=PASSWORD + "\n")
        fetch(GitSource(url=private.url("app.git"), ref="main", credentials_dir=folder), private)

    def test_in_the_address(self, private: GitServer, fetch: Fetch) -> None:
        log: list[str] = []
        login = "us%40er:correct%20horse%2Fbattery%2520staple"
        fetch(GitSource(url=private.url("app.git", login=login)), private, log)
        assert "battery" not in "".join(log)

    def test_kaniko_s_token_is_the_user_name(self, serve: Serve, fetch: Fetch) -> None:
        server = serve(username="ghp_token")
        server.repository("app.git").commit({"a": "1"})
        fetch(GitSource(url=server.url("app.git")), server, GIT_TOKEN="ghp_token")

    def test_bearer_token(self, serve: Serve, fetch: Fetch, secret: Secret) -> None:
        server = serve(bearer='to"ken\\')
        server.repository("app.git").commit({"a": "1"})
        folder = secret(bearerToken='to"ken\\')
        fetch(GitSource(url=server.url("app.git"), ref="main", credentials_dir=folder), server)

    def test_missing_login(self, private: GitServer, fetch: Fetch) -> None:
        error = refused(fetch, GitSource(url=private.url("app.git")), private)
        assert error.reason is Reason.GIT_AUTH_FAILED
        assert "the server requires a login" in error.message
        assert "secretRef" in error.hint

    def test_wrong_login(self, private: GitServer, fetch: Fetch) -> None:
        error = refused(
            fetch, GitSource(url=private.url("app.git")), private, GIT_USERNAME="us@er", GIT_PASSWORD="hunter2"
        )
        assert error.reason is Reason.GIT_AUTH_FAILED
        assert "the server refused the login" in error.message
        assert "hunter2" not in error.render()

    def test_never_in_an_argument_of_any_process(self, private: GitServer, fetch: Fetch, tmp_path: Path) -> None:
        """git, and what git starts, are called through programs that write their arguments down."""
        seen = tmp_path / "arguments"
        fake = tmp_path / "bin"
        fake.mkdir()
        real = next(folder for folder in os.environ["PATH"].split(":") if os.path.exists(f"{folder}/git"))
        (fake / "git").write_text(
            f"#!{os.path.realpath(sys.executable)} -S\nimport os, sys\n"
            f"open({str(seen)!r}, 'a').write(repr(sys.argv) + '\\n')\n"
            f"os.execv({real + '/git'!r}, ['git', *sys.argv[1:]])\n"
        )
        (fake / "git").chmod(0o755)
        login = "us%40er:correct%20horse%2Fbattery%2520staple"
        fetch(GitSource(url=private.url("app.git", login=login)), private, PATH=f"{fake}:{os.environ['PATH']}")
        text = seen.read_text()
        assert "fetch" in text
        assert "battery" not in text

    def test_not_given_to_the_host_of_a_redirect(self, serve: Serve, fetch: Fetch) -> None:
        thief = serve(username="us@er", password=PASSWORD, tls=False, hosts=("localhost",))
        thief.repository("app.git").commit({"a": "1"})
        honest = serve(tls=False, redirects={"/app.git": thief.url("app.git")}, hosts=("127.0.0.1",))
        error = refused(fetch, GitSource(url=honest.url("app.git")), GIT_USERNAME="us@er", GIT_PASSWORD=PASSWORD)
        assert error.reason is Reason.GIT_AUTH_FAILED
        assert thief.requests
        assert not any(request.authorization for request in thief.requests)

    def test_a_token_is_not_given_to_the_host_of_a_redirect(self, serve: Serve, fetch: Fetch, secret: Secret) -> None:
        thief = serve(tls=False, hosts=("localhost",))
        thief.repository("app.git").commit({"a": "1"})
        honest = serve(tls=False, redirects={"/app.git": thief.url("app.git")}, hosts=("127.0.0.1",))
        folder = secret(bearerToken="tok3n")
        error = refused(fetch, GitSource(url=honest.url("app.git"), credentials_dir=folder))
        assert "redirects elsewhere" in error.message
        assert not thief.requests

    def test_a_redirect_without_a_login_is_followed(self, serve: Serve, fetch: Fetch) -> None:
        server = serve(tls=False)
        commit = server.repository("app.git").commit({"a": "1"})
        moved = serve(tls=False, redirects={"/old.git": server.url("app.git")})
        assert fetch(GitSource(url=moved.url("old.git"), ref="main")).commit == commit

    def test_over_http_it_is_sent_with_a_warning(self, serve: Serve, fetch: Fetch) -> None:
        server = serve(tls=False, username="u", password="p")
        server.repository("app.git").commit({"a": "1"})
        log: list[str] = []
        fetch(GitSource(url=server.url("app.git")), None, log, GIT_USERNAME="u", GIT_PASSWORD="p")
        assert any("unencrypted" in line for line in log)


class TestReaching:
    def test_no_such_repository(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        error = refused(fetch, GitSource(url=server.url("nope.git")), server)
        assert error.reason is Reason.GIT_REPOSITORY_NOT_FOUND
        assert error.hint

    def test_an_empty_repository(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        server.repository("app.git")
        error = refused(fetch, GitSource(url=server.url("app.git")), server)
        assert error.reason is Reason.GIT_REVISION_NOT_FOUND
        assert "is empty" in error.message

    def test_an_unknown_certificate(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        server.repository("app.git").commit({"a": "1"})
        error = refused(fetch, GitSource(url=server.url("app.git")))
        assert error.reason is Reason.SOURCE_CERTIFICATE_UNTRUSTED
        assert "ca.crt" in error.hint

    def test_a_certificate_of_another_name(self, serve: Serve, fetch: Fetch) -> None:
        server = serve(hosts=("git.example.com",))
        error = refused(fetch, GitSource(url=server.url("app.git", host="localhost")), server)
        assert error.reason is Reason.SOURCE_CERTIFICATE_UNTRUSTED

    def test_a_server_without_tls(self, serve: Serve, fetch: Fetch) -> None:
        server = serve(tls=False)
        server.repository("app.git").commit({"a": "1"})
        error = refused(fetch, GitSource(url=server.url("app.git").replace("http:", "https:")))
        assert error.reason is Reason.SOURCE_FETCH_FAILED
        assert "http://" in error.hint

    def test_the_secret_s_ca(self, serve: Serve, fetch: Fetch, secret: Secret) -> None:
        server = serve()
        server.repository("app.git").commit({"a": "1"})
        folder = secret(ca_crt=server.ca_file.read_bytes())
        fetch(GitSource(url=server.url("app.git"), credentials_dir=folder))

    def test_either_variable_names_trusted_certificates(self, serve: Serve, fetch: Fetch, tmp_path: Path) -> None:
        """The executor's image sets both; a user who overrides one of them means it."""
        server = serve()
        server.repository("app.git").commit({"a": "1"})
        other = serve().ca_file
        source = GitSource(url=server.url("app.git"))
        fetch(source, SSL_CERT_FILE=str(server.ca_file), GIT_SSL_CAINFO=str(other))
        fetch(source, SSL_CERT_FILE=str(other), GIT_SSL_CAINFO=str(server.ca_file))
        fetch(source, SSL_CERT_FILE=f"{tmp_path}/nope.pem", GIT_SSL_CAINFO=str(server.ca_file))

    def test_verification_can_be_skipped(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        server.repository("app.git").commit({"a": "1"})
        fetch(GitSource(url=server.url("app.git"), insecure_skip_tls_verify=True))

    def test_nobody_listens(self, fetch: Fetch) -> None:
        error = refused(fetch, GitSource(url="https://127.0.0.1:1/app.git"))
        assert error.reason is Reason.SOURCE_UNREACHABLE

    def test_no_such_host(self, fetch: Fetch) -> None:
        error = refused(fetch, GitSource(url="https://no-such-host.invalid/certificate.git"))
        assert error.reason is Reason.SOURCE_UNREACHABLE
        assert "resolved" in error.message

    @pytest.mark.parametrize("trouble", ["failures", "drops"])
    def test_a_server_in_trouble_is_asked_again(self, serve: Serve, fetch: Fetch, trouble: str) -> None:
        server = serve(**{trouble: 2}, tls=False)
        commit = server.repository("app.git").commit({"a": "1"})
        log: list[str] = []
        assert fetch(GitSource(url=server.url("app.git")), server, log).commit == commit
        assert sum("retrying in" in line for line in log) == 2

    def test_retries_are_limited(self, serve: Serve, fetch: Fetch) -> None:
        server = serve(failures=1000)
        error = refused(fetch, GitSource(url=server.url("app.git")), server)
        assert error.reason is Reason.SOURCE_UNREACHABLE
        assert "the server is overloaded or failing" in error.message
        assert len(server.requests) == 3

    def test_truncated_answer_is_retried(self, serve: Serve, fetch: Fetch) -> None:
        server = serve(cuts=1)
        commit = server.repository("app.git").commit({"a": os.urandom(100_000)})
        log: list[str] = []
        context = fetch(GitSource(url=server.url("app.git")), server, log)
        assert context.commit == commit
        assert os.path.getsize(os.path.join(context.path, "a")) == 100_000
        assert any("the connection broke" in line and "retrying in" in line for line in log)

    def test_answers_that_are_always_truncated(self, serve: Serve, fetch: Fetch) -> None:
        server = serve(cuts=1000)
        server.repository("app.git").commit({"a": os.urandom(100_000)})
        assert refused(fetch, GitSource(url=server.url("app.git")), server).reason is Reason.SOURCE_UNREACHABLE

    def test_git_is_not_installed(self, fetch: Fetch, tmp_path: Path) -> None:
        error = refused(fetch, GitSource(url="https://127.0.0.1:1/app.git"), PATH=str(tmp_path))
        assert "not installed" in error.message


class TestSubmodules:
    def test_nested_and_relative_with_the_same_login(self, serve: Serve, fetch: Fetch) -> None:
        server = serve(username="u", password="p")
        leaf = server.repository("team/leaf.git").commit({"leaf": "1"})
        old = server.repository("team/lib.git").commit({"lib": "1", "leaf dir": Submodule("../leaf.git", leaf)})
        Repository(server.options.root / "team/lib.git").commit({"lib": "2"})
        server.repository("team/app.git").commit({"a": "1", "vendor/lib": Submodule(server.url("team/lib.git"), old)})
        source = GitSource(url=server.url("team/app.git"), submodules=True)
        context = fetch(source, server, GIT_USERNAME="u", GIT_PASSWORD="p")
        assert files(context) == {
            "a",
            ".gitmodules",
            "vendor/lib/lib",
            "vendor/lib/.gitmodules",
            "vendor/lib/leaf dir/leaf",
        }
        assert Path(context.path, "vendor/lib/lib").read_text() == "1"

    def test_only_when_asked(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        lib = server.repository("lib.git").commit({"lib": "1"})
        server.repository("app.git").commit({"lib": Submodule("../lib.git", lib)})
        assert files(fetch(GitSource(url=server.url("app.git")), server)) == {".gitmodules"}

    def test_the_login_is_not_given_to_another_host(self, serve: Serve, fetch: Fetch) -> None:
        thief = serve(username="u", password="p", hosts=("localhost", "127.0.0.1"))
        lib = thief.repository("lib.git").commit({"lib": "1"})
        server = serve(username="u", password="p")
        server.repository("app.git").commit({"lib": Submodule(thief.url("lib.git"), lib)})
        source = GitSource(url=server.url("app.git"), submodules=True, insecure_skip_tls_verify=True)
        error = refused(fetch, source, GIT_USERNAME="u", GIT_PASSWORD="p")
        assert error.reason is Reason.GIT_AUTH_FAILED
        assert thief.requests
        assert not any(request.authorization for request in thief.requests)

    @pytest.mark.parametrize(
        "url", ["file:///etc", "/etc", "ext::sh -c 'touch /tmp/pwned'", "--upload-pack=touch", "ssh://-oX/y"]
    )
    def test_a_hostile_address(self, serve: Serve, fetch: Fetch, url: str) -> None:
        server = serve()
        server.repository("app.git").commit({"lib": Submodule(url, "1" * 40)})
        error = refused(fetch, GitSource(url=server.url("app.git"), submodules=True), server)
        assert error.reason in (Reason.PATH_NOT_ALLOWED, Reason.USAGE_INVALID)

    def test_repository_that_contains_itself(self, serve: Serve, fetch: Fetch) -> None:
        """A commit can't hold its own hash, but a server can hold commits that hold one another's repository."""
        server = serve()
        commit = server.repository("app.git").commit({"a": "1"})
        repository = Repository(server.options.root / "app.git")
        for _ in range(12):
            commit = repository.commit({"again": Submodule("../app.git", commit)})
        error = refused(fetch, GitSource(url=server.url("app.git"), submodules=True), server)
        assert error.reason is Reason.LIMIT_EXCEEDED


class TestHostile:
    @pytest.mark.parametrize(
        ("subdir", "target"),
        [("out", "/"), ("out", ".."), ("a/out", "../.."), ("out/etc", "/"), ("out", "/proc/self/root")],
    )
    def test_subdirectory_that_leads_out(self, serve: Serve, fetch: Fetch, subdir: str, target: str) -> None:
        server = serve()
        link = subdir if subdir != "out/etc" else "out"
        server.repository("app.git").commit({"file": "1", link: Link(target)})
        error = refused(fetch, GitSource(url=server.url("app.git"), subdir=subdir), server)
        assert error.reason is Reason.PATH_NOT_ALLOWED

    @pytest.mark.parametrize("subdir", ["..", "../git", "a/../../git", "a/.."])
    def test_dots(self, serve: Serve, fetch: Fetch, subdir: str) -> None:
        server = serve()
        server.repository("app.git").commit({"a/b": "1"})
        assert (
            refused(fetch, GitSource(url=server.url("app.git"), subdir=subdir), server).reason
            is Reason.PATH_NOT_ALLOWED
        )

    def test_a_link_inside_the_repository_is_followed(self, serve: Serve, fetch: Fetch) -> None:
        server = serve()
        server.repository("app.git").commit({"real/b": "1", "link": Link("real")})
        assert files(fetch(GitSource(url=server.url("app.git"), subdir="link"), server)) == {"b"}

    @pytest.mark.parametrize("subdir", ["nope", "file"])
    def test_missing_subdirectory(self, serve: Serve, fetch: Fetch, subdir: str) -> None:
        server = serve()
        server.repository("app.git").commit({"file": "1"})
        assert (
            refused(fetch, GitSource(url=server.url("app.git"), subdir=subdir), server).reason is Reason.FILE_NOT_FOUND
        )

    def test_the_machine_s_own_configuration_is_not_read(self, serve: Serve, fetch: Fetch, tmp_path: Path) -> None:
        """A hook by template and a filter by attributes would each leave a mark."""
        mark = tmp_path / "mark"
        hooks = tmp_path / "hooks"
        hooks.mkdir()
        (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {mark}\n")
        (hooks / "post-checkout").chmod(0o755)
        home = tmp_path / "home"
        home.mkdir()
        (home / ".gitconfig").write_text(f'[core]\nhooksPath = {hooks}\n[filter "x"]\nsmudge = touch {mark}; cat\n')
        server = serve()
        server.repository("app.git").commit({"a": "1", ".gitattributes": "* filter=x\n"})
        fetch(GitSource(url=server.url("app.git")), server, HOME=str(home), GIT_CONFIG_GLOBAL=str(home / ".gitconfig"))
        assert not mark.exists()

    def test_server_messages_cannot_control_the_terminal(self, fetch: Fetch, secret: Secret, tmp_path: Path) -> None:
        folder = secret(username="u", password="hunter2-secret")
        with _file_server(tmp_path, status=400, body=b"\x1b]0;owned\x07 \x1b[2J hunter2-secret\n") as port:
            source = GitSource(url=f"http://127.0.0.1:{port}/app.git", credentials_dir=folder)
            text = refused(fetch, source).render()
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "hunter2" not in text


def _file_server(folder: Path, status: int = 200, body: bytes = b"") -> Any:
    """A web server that knows nothing of git: a folder's files, or one answer to everything."""
    import functools
    import http.server
    import threading
    from contextlib import contextmanager

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if not body:
                super().do_GET()
                return
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    @contextmanager
    def serving() -> Iterator[int]:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    return serving()
