"""Sources of ADD: URLs, repositories and paths, with examples from BuildKit's tests."""

from __future__ import annotations

import pytest

from imagewright.plan.remote import (
    GitRemote,
    RemoteError,
    RemoteSource,
    UrlSource,
    parse_remote,
    with_checksum,
    with_git_dir,
)

REPO = "https://example.com/a/b.git"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a.txt", None),
        ("./git@example.com:a", None),
        ("github.com/moby/buildkit", None),
        ("https://example.com/a/b.tgz?x=1#y", UrlSource("https://example.com/a/b.tgz?x=1#y", "b.tgz")),
        ("https://example.com/a%20b/", UrlSource("https://example.com/a%20b/", "a b")),
        ("https://example.com", UrlSource("https://example.com", "__unnamed__")),
        ("https://example.com/a/..", UrlSource("https://example.com/a/..", "download")),
        ("https://example.com/a/b", UrlSource("https://example.com/a/b", "b")),
        (REPO, GitRemote(REPO)),
        (f"{REPO}#main", GitRemote(REPO, "main")),
        (f"{REPO}#main:docs/../src/", GitRemote(REPO, "main", subdir="src")),
        (f"{REPO}#:src", GitRemote(REPO, subdir="src")),
        ("git@example.com:a/b.git#v1:docs", GitRemote("git@example.com:a/b.git", "v1", subdir="docs")),
        ("git@example.com:a/b?ref=v1", GitRemote("git@example.com:a/b", "v1")),
        ("ssh://git@example.com:22/a", GitRemote("ssh://git@example.com:22/a")),
        ("git://example.com/a", GitRemote("git://example.com/a")),
        (f"{REPO}?tag=v1", GitRemote(REPO, "refs/tags/v1")),
        (f"{REPO}?branch=refs/heads/main", GitRemote(REPO, "refs/heads/main")),
        (f"{REPO}?ref=v1&subdir=/docs&checksum=ab12", GitRemote(REPO, "v1", "ab12", "docs")),
        (f"{REPO}?keep-git-dir&submodules=0", GitRemote(REPO, keep_git_dir=True, submodules=False)),
        (f"{REPO}?keep-git-dir=false", GitRemote(REPO, keep_git_dir=False)),
        (f"{REPO}?mtime=commit", GitRemote(REPO, commit_times=True)),
        (f"{REPO}?fetch-by-commit&commit={COMMIT}", GitRemote(REPO, checksum=COMMIT, by_commit=True)),
        (f"{REPO}?ref=main#main", GitRemote(REPO, "main")),
    ],
)
def test_sources_of_add(text: str, meant: RemoteSource | None) -> None:
    assert parse_remote(text) == meant


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://example.com/a", 'unsupported URL scheme "ftp"'),
        ("file:///etc/passwd", 'unsupported URL scheme "file"'),
        ("https:///a", "no host"),
        ("https://example.com:x/a", "invalid URL"),
        (f"{REPO}?deph=1", 'unknown query key "deph"'),
        (f"{REPO}?ref=", '"ref" has no value'),
        (f"{REPO}?ref=a&ref=b", '"ref" is repeated'),
        (f"{REPO}?ref=a#b", '"b" and "a" for ref'),
        (f"{REPO}?subdir=a#:b", '"b" and "a" for subdir'),
        (f"{REPO}?tag=a&branch=b", "tag and branch cannot both"),
        (f"{REPO}?tag=a#b", '"b" and "refs/tags/a" for ref'),
        (f"{REPO}?submodules=maybe", "invalid submodules value"),
        (f"{REPO}?checksum=xyz", "not a commit hash"),
        (f"{REPO}?mtime=now", 'invalid mtime value "now"'),
        (f"{REPO}?fetch-by-commit", "requires a full checksum"),
    ],
)
def test_an_invalid_url_is_refused(text: str, words: str) -> None:
    with pytest.raises(RemoteError, match=words):
        parse_remote(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://me:sec/ret@a.test/x",
        "https://ss@me:secret@a.test:x/",
        "https://me:secret@/x",
        "git://me:secret@a\\b/x.git",
    ],
)
def test_credentials_of_an_invalid_url_are_not_shown(text: str) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_remote(text)
    assert "ret" not in caught.value.message


def test_credentials_are_not_shown() -> None:
    assert str(parse_remote("https://me:secret@example.com/a")) == "https://example.com/a"
    assert str(parse_remote("https://me:secret@example.com/a.git#main:x")) == "https://example.com/a.git#main:x"


def test_flags_that_conflict_with_the_url_are_refused() -> None:
    url, repository = UrlSource("https://example.com/a", "a"), GitRemote(REPO, checksum="ab", keep_git_dir=True)
    digest = "sha256:" + "0" * 64
    assert with_checksum(url, digest) == UrlSource(url.url, "a", digest)
    for wrong in ("sha512:" + "0" * 128, "sha256:abc", "0" * 64):
        with pytest.raises(RemoteError, match="not a SHA-256 checksum"):
            with_checksum(url, wrong)
    assert with_checksum(repository, "ab") == repository
    with pytest.raises(RemoteError, match="conflict"):
        with_checksum(repository, "cd")
    with pytest.raises(RemoteError, match="not a commit hash"):
        with_checksum(GitRemote(REPO), digest)
    assert with_git_dir(repository, True) == repository
    assert with_git_dir(url, True) == url
    with pytest.raises(RemoteError, match="conflict"):
        with_git_dir(repository, False)
