"""Addresses, logins and refs of git sources: what is accepted, what is refused, and where a login never shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagewright.context.git.address import Address, Login, check_ref, find_login
from imagewright.contract.sources import GitSource
from imagewright.errors import Reason, SourceError


@pytest.mark.parametrize(
    ("text", "url", "origin"),
    [
        ("git://host/team/app.git", "https://host/team/app.git", "https://host"),
        ("https://host:8443/app.git", "https://host:8443/app.git", "https://host:8443"),
        ("http://host/app", "http://host/app", "http://host"),
        ("https://u:p@host/app.git", "https://host/app.git", "https://host"),
        ("https://[::1]:8443/app.git", "https://[::1]:8443/app.git", "https://[::1]:8443"),
        ("https://host/a b.git".replace(" ", "%20"), "https://host/a%20b.git", "https://host"),
        ("ssh://git@host:2222/app.git", "ssh://git@host:2222/app.git", ""),
        ("ssh://git:secret@host/app.git", "ssh://git@host/app.git", ""),
        ("git@host:team/app.git", "git@host:team/app.git", ""),
    ],
)
def test_address_as_git_gets_it(text: str, url: str, origin: str) -> None:
    address, _ = Address.parse(text)
    assert (address.url, address.origin) == (url, origin)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host/app.git",
        "file:///etc",
        "ext::sh -c id",
        "ftp://host/app.git",
        "https:///app.git",
        "https://-oProxyCommand=id/app.git",
        "ssh://-oProxyCommand=id/app.git",
        "ssh://-oProxyCommand=id@host/app.git",
        "-oProxyCommand=id@host:app.git",
        "git@-oProxyCommand=id:app.git",
        "git@host:-u./payload",
        "https://host:99999999/app.git",
        "https://host:port/app.git",
        "https://[::1/app.git",
        "https://host/app.git\nhttps://other/",
        "https://ho st/app.git",
        "--upload-pack=id",
    ],
)
def test_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        Address.parse(text)
    assert caught.value.reason is Reason.USAGE_INVALID
    assert "https://host/path.git" in caught.value.hint


def test_a_refused_address_does_not_show_its_login() -> None:
    with pytest.raises(SourceError) as caught:
        Address.parse("ftp://user:hunter2@host/app.git")
    assert "hunter2" not in caught.value.render()


def test_the_login_of_an_address_is_unquoted() -> None:
    assert Address.parse("https://us%40er:p%2Fw@host/app.git")[1] == Login("us@er", "p/w")


def test_a_login_does_not_print_its_secrets() -> None:
    assert "hunter2" not in repr(Login("user", "hunter2", "hunter2"))


@pytest.mark.parametrize(
    "ref", ["", "main", "v1.2.0", "feature/a-b_c", "refs/pull/12/head", "release-1.x", "fix#12", "größe", "a@b"]
)
def test_branch_and_tag_names_are_accepted(ref: str) -> None:
    check_ref(ref)


@pytest.mark.parametrize(
    "ref",
    ["-b", "--upload-pack=id", "a b", "a..b", "a:b", "+main", "main^", "main~1", "a*", "a?", "a[", "a\\b", "a\nb", "x.lock",
     "a.lock/b", "a//b", "a/", "/a", ".a", "a/.b", "a.", "a@{1}", "a\0b"],
)  # fmt: skip
def test_refs_that_git_would_misread_are_refused(ref: str) -> None:
    with pytest.raises(SourceError) as caught:
        check_ref(ref)
    assert caught.value.reason is Reason.USAGE_INVALID


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Login()),
        ({"GIT_USERNAME": "u", "GIT_PASSWORD": "p"}, Login("u", "p")),
        ({"GIT_TOKEN": "t"}, Login("t", "")),
        ({"GIT_TOKEN": "t", "GIT_PASSWORD": "p"}, Login("t", "")),
        ({"GIT_TOKEN": "t", "GIT_USERNAME": "oauth2"}, Login("oauth2", "t")),
    ],
)
def test_kaniko_s_variables(environment: dict[str, str], expected: Login) -> None:
    assert find_login(GitSource(url="https://host/app.git"), Login(), environment) == expected


def test_the_secret_wins_over_the_address_and_the_variables(tmp_path: Path) -> None:
    (tmp_path / "username").write_text("mounted\n")
    (tmp_path / "password").write_text("pw \n")
    source = GitSource(url="https://host/app.git", credentials_dir=str(tmp_path))
    assert find_login(source, Login("a", "b"), {"GIT_TOKEN": "t"}) == Login("mounted", "pw ")


def test_secret_without_login_keys_means_no_login(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("host ssh-ed25519 AAAA")
    source = GitSource(url="https://host/app.git", credentials_dir=str(tmp_path))
    assert not find_login(source, Login(), {"GIT_TOKEN": "t"})


def test_a_secret_for_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2")
    with pytest.raises(SourceError) as caught:
        find_login(GitSource(url="https://host/app.git", credentials_dir=str(tmp_path)), Login(), {})
    assert caught.value.reason is Reason.GIT_AUTH_FAILED
    assert "none of the keys username, password, bearerToken" in caught.value.message
    assert "it has token" in caught.value.message


def test_a_password_of_two_lines_is_refused_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\nurl=https://other\n")
    with pytest.raises(SourceError) as caught:
        find_login(GitSource(url="https://host/app.git", credentials_dir=str(tmp_path)), Login(), {})
    assert caught.value.reason is Reason.GIT_AUTH_FAILED
    assert "hunter2" not in caught.value.render()


HTTPS = "https://host/team/app.git"
SSH = "ssh://git@host:2222/team/app.git"
SCP = "git@host:team/app.git"


@pytest.mark.parametrize(
    ("repository", "text", "url"),
    [
        (HTTPS, "../lib.git", "https://host/team/lib.git"),
        (HTTPS, "../../other/lib.git/", "https://host/other/lib.git"),
        (HTTPS, "./nested.git", "https://host/team/app.git/nested.git"),
        (HTTPS, "https://elsewhere/lib.git", "https://elsewhere/lib.git"),
        ("http://host/app.git", "http://host/lib.git", "http://host/lib.git"),
        (SSH, "../lib.git", "ssh://git@host:2222/team/lib.git"),
        (SSH, "ssh://other@host:2222/lib.git", "ssh://other@host:2222/lib.git"),
        (SSH, "https://elsewhere/lib.git", "https://elsewhere/lib.git"),
        (SCP, "../../other/lib.git", "git@host:other/lib.git"),
        (SCP, "ssh://git@HOST:22/lib.git", "ssh://git@HOST:22/lib.git"),
        ("ssh://host/app.git", "git@Host:lib.git", "git@Host:lib.git"),
    ],
)
def test_a_submodule_s_address(repository: str, text: str, url: str) -> None:
    assert Address.parse(repository)[0].submodule(text).url == url


@pytest.mark.parametrize(
    ("repository", "text"),
    [
        (HTTPS, "http://host/lib.git"),
        (HTTPS, "ssh://host/lib.git"),
        (HTTPS, "git@host:lib.git"),
        (HTTPS, "https://u:p@host/lib.git"),
        (HTTPS, "http://elsewhere/x"),
        (HTTPS, "../../../lib.git"),
        (SSH, "git@host:lib.git"),  # another port
        (SSH, "ssh://git@elsewhere:2222/lib.git"),
        (SSH, "http://host:2222/lib.git"),
        (SCP, "git@elsewhere:team/lib.git"),
        (SCP, "git@host.elsewhere:team/lib.git"),
        (SCP, "ssh://git@host:2222/lib.git"),
        (SCP, "../../../lib.git"),
    ],
)
def test_a_submodule_comes_over_https_or_from_the_same_server(repository: str, text: str) -> None:
    with pytest.raises(SourceError) as caught:
        Address.parse(repository)[0].submodule(text)
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED


@pytest.mark.parametrize("text", ["file:///etc", "/etc", "ext::id", "--upload-pack=id", "-x"])
def test_a_submodule_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(SourceError):
        Address.parse("https://host/team/app.git")[0].submodule(text)
