"""Flags and kaniko's ways to name a context become a request; what can't be meant is refused without giving away a
login.
"""

from pathlib import Path

import pytest

from imagewright.cli.arguments import parse
from imagewright.cli.contexts import parse_context
from imagewright.cli.request import (
    build_request,
    check_environment,
    default_cache_dir,
    environment_request,
    unused_cache_flags,
)
from imagewright.contract.request import BuildArg, BuildRequest, ContextSettings, SandboxKind, SecretSource, SshSource
from imagewright.contract.sources import (
    AzureBlobSource,
    DirectorySource,
    GcsSource,
    GitSource,
    HttpArchiveSource,
    NamedContext,
    OciSource,
    S3Source,
    TarSource,
)
from imagewright.errors import UnsupportedError, UsageError

SHA = "0123456789abcdef0123456789abcdef01234567"
URL = "https://git.example.com/team/app.git"


def request(*words: str, environment: dict[str, str] | None = None) -> BuildRequest:
    return build_request(parse(words, environment or {}), environment or {})


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (".", DirectorySource(path=".")),
        ("some/folder", DirectorySource(path="some/folder")),
        ("dir:///workspace", DirectorySource(path="/workspace")),
        ("tar://context.tar.gz", TarSource(path="context.tar.gz")),
        ("tar://stdin", TarSource(path="-")),
        ("tar:///dev/stdin", TarSource(path="-")),
        ("tar:///proc/self/fd/0", TarSource(path="-")),
        ("tar:///dev/fd/63", TarSource(path="/dev/fd/63")),
        (URL, GitSource(url=URL)),
        (f"{URL}#main", GitSource(url=URL, ref="main")),
        (f"{URL}#refs/heads/main#{SHA}", GitSource(url=URL, ref="refs/heads/main", commit=SHA)),
        (f"{URL}#{SHA}", GitSource(url=URL, commit=SHA)),
        (f"{URL}#main:sub/folder", GitSource(url=URL, ref="main", subdir="sub/folder")),
        (f"{URL}#:sub", GitSource(url=URL, subdir="sub")),
        (f"{URL}#main#{SHA}:sub", GitSource(url=URL, ref="main", commit=SHA, subdir="sub")),
        ("git://github.com/team/app", GitSource(url="git://github.com/team/app")),
        ("https://github.com/team/app", GitSource(url="https://github.com/team/app")),
        ("git@git.example.com:team/app.git#v1", GitSource(url="git@git.example.com:team/app.git", ref="v1")),
        ("ssh://git@git.example.com/app", GitSource(url="ssh://git@git.example.com/app")),
        ("https://files.example.com/a.tar.gz", HttpArchiveSource(url="https://files.example.com/a.tar.gz")),
        ("https://github.com/o/r/archive/v1.tar.gz", HttpArchiveSource(url="https://github.com/o/r/archive/v1.tar.gz")),
        ("s3://bucket/key", S3Source(bucket="bucket", key="key")),
        ("gs://bucket/a/b.tar.gz", GcsSource(bucket="bucket", object="a/b.tar.gz")),
        ("gs://bucket", GcsSource(bucket="bucket", object="context.tar.gz")),
        (
            "https://account.blob.core.windows.net/box/a.tar.gz",
            AzureBlobSource(url="https://account.blob.core.windows.net/box/a.tar.gz"),
        ),
        ("oci://registry.example.com/context:1", OciSource(image="registry.example.com/context:1")),
    ],
)
def test_context(text: str, source: object) -> None:
    assert parse_context(text, {}) == source


def test_context_in_s3_takes_kanikos_variables() -> None:
    environment = {"S3_ENDPOINT": "https://s3.example.com", "S3_FORCE_PATH_STYLE": "true"}
    found = parse_context("s3://bucket/a/b.tar.gz", environment)
    assert found == S3Source(bucket="bucket", key="a/b.tar.gz", endpoint="https://s3.example.com", path_style=True)


@pytest.mark.parametrize("text", ["", "dir://", "tar://", "s3://", "gs:///key", "ftp://host/x"])
def test_context_without_a_source_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid --context value"):
        parse_context(text, {})


@pytest.mark.parametrize(
    "text",
    [
        "ftp://user:hunter2hunter2@files.example.com/x",
        "https://user:hunter2hunter2@git.example.com/app.git#main#abc",
    ],
)
def test_login_in_an_address_is_not_in_the_error(text: str) -> None:
    with pytest.raises((UsageError, UnsupportedError)) as caught:
        parse_context(text, {})
    assert "hunter2" not in caught.value.render()
    assert "example.com" in caught.value.render()


def test_short_commit_is_refused() -> None:
    with pytest.raises(UsageError, match='"abc" is not a full commit hash'):
        parse_context(f"{URL}#main#abc", {})


def test_build_arguments_with_value_without_and_from_the_environment() -> None:
    assert request("--build-arg", "A=1=2", "--build-arg=B=", "--build-arg", "C").plan.build_args == (
        BuildArg(name="A", value="1=2"),
        BuildArg(name="B", value=""),
        BuildArg(name="C", from_env="C"),
    )
    with pytest.raises(UsageError, match="no name before"):
        request("--build-arg", "=x")


@pytest.mark.parametrize("word", ["--build-arg=SECRET=hunter2\udcff", "--label=SECRET=hunter2\udcff"])
def test_bytes_that_are_not_utf8_are_refused_without_showing_the_value(word: str) -> None:
    with pytest.raises(UsageError, match="not UTF-8") as caught:
        request(word)
    assert "hunter2" not in caught.value.render()


def test_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--build-arg"):
        request("--build-arg=\udcff=1")
    with pytest.raises(UsageError, match=r"KANIKO_REGISTRY_MIRROR: not UTF-8"):
        request(environment={"KANIKO_REGISTRY_MIRROR": "a\udcff"})


def test_build_argument_from_an_environment_that_is_not_utf8_is_refused() -> None:
    built = request("--build-arg=A")
    check_environment(built, {"A": "text", "B": "\udcff"})
    with pytest.raises(UsageError, match=r'invalid build argument "A".*not UTF-8'):
        check_environment(built, {"A": "hunter2\udcff"})


def test_registries() -> None:
    built = request(
        "--insecure-registry=a.example,b.example:5000",
        "--registry-mirror=https://mirror.example/hub",
        "--registry-map=quay.io=mirror.example;ghcr.io=other.example",
        "--registry-endpoint=docker.io=198.51.100.1:5000",
    )
    by_host = {settings.host: settings for settings in built.registry.hosts}
    assert set(by_host) == {"a.example", "b.example:5000", "docker.io", "quay.io", "ghcr.io"}
    assert by_host["b.example:5000"].insecure
    assert by_host["docker.io"].mirrors == ("mirror.example/hub",)
    assert by_host["docker.io"].endpoint == "198.51.100.1:5000"
    assert by_host["ghcr.io"].mirrors == ("other.example",)


def test_missing_certificate_is_named() -> None:
    with pytest.raises(UsageError, match="no such file"):
        request("--registry-certificate=a.example=/does/not/exist.pem")


@pytest.mark.parametrize(
    "word",
    [
        "--sandbox=vm",
        "--label=x",
        "--label==x",
        "--context=",
        "--context=dir://",
        "--context-sub-path=../other",
        "--context-sub-path=a/../../b",
        "--registry-map=x",
        "--registry-map=a=b=c",
        "--registry-map=a/path=b",
        "--registry-mirror=with space",
        "--registry-endpoint=a=",
        "--insecure-registry=http://a.example",
        "--insecure-registry=a.example/path",
    ],
)
def test_unreadable_value_is_refused(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        request(word)
    assert word.partition("=")[0] in caught.value.message


def test_address_of_ip_version_6() -> None:
    (settings,) = request("--insecure-registry=[2001:db8::1]:5000").registry.hosts
    assert settings.host == "[2001:db8::1]:5000"


def test_defaults() -> None:
    built = request()
    assert built == BuildRequest(context=ContextSettings(source=DirectorySource(path=".")))
    assert built.run.sandbox is SandboxKind.AUTO
    assert built.output.push


def test_boolean_in_the_environment_is_checked_too() -> None:
    assert not request(environment={"KANIKO_NO_PUSH": "true"}).output.push
    with pytest.raises(UsageError, match='invalid KANIKO_NO_PUSH value "yes": not a boolean'):
        request(environment={"KANIKO_NO_PUSH": "yes"})


def test_request_of_the_operator() -> None:
    built = request("--destination=r.example/a:1")
    assert environment_request({"IMAGEWRIGHT_REQUEST": built.encode()}, "IMAGEWRIGHT_REQUEST") == built
    with pytest.raises(UsageError, match="IMAGEWRIGHT_REQUEST is not set"):
        environment_request({}, "IMAGEWRIGHT_REQUEST")
    with pytest.raises(UsageError, match="cannot read the build request: context: field required"):
        environment_request({"IMAGEWRIGHT_REQUEST": "e30="}, "IMAGEWRIGHT_REQUEST")


def test_what_a_run_mounts_is_named_in_the_request(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2")
    built = request(
        f"--secret=id=npmrc,src={tmp_path}/key",
        "--secret=id=token,env=TOKEN",
        f"--ssh=default={tmp_path}/key",
        f"--build-context=base={tmp_path}",
        f"--cache-dir={tmp_path}/cache",
        environment={"TOKEN": "hunter2"},
    )
    assert built.run.secrets == (
        SecretSource(id="npmrc", file=f"{tmp_path}/key"),
        SecretSource(id="token", env="TOKEN"),
    )
    assert built.run.ssh == (SshSource(paths=(f"{tmp_path}/key",)),)
    assert built.context.named == (NamedContext(name="base", source=DirectorySource(path=str(tmp_path))),)
    assert built.run.cache_dir == f"{tmp_path}/cache"
    assert "hunter2" not in repr(built)


def test_cache_dir_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"invalid --cache-dir value .*: not a directory"):
        request(f"--cache-dir={tmp_path}/file")


def test_kanikos_cache_dir_is_the_default_only_in_the_executor_image(tmp_path: Path) -> None:
    marker, folder = tmp_path / "executor-image", tmp_path / "cache"
    assert default_cache_dir(str(marker), str(folder)) == ""
    folder.mkdir()
    assert default_cache_dir(str(marker), str(folder)) == ""
    marker.touch()
    assert default_cache_dir(str(marker), str(folder)) == str(folder)
    folder.rmdir()
    assert default_cache_dir(str(marker), str(folder)) == ""


def test_git_options_of_kaniko() -> None:
    options = "--git=branch=main,depth=3,recurse-submodules=true,insecure-skip-tls=true,single-branch=true"
    source = GitSource(url=URL, ref="main", depth=3, submodules=True, insecure_skip_tls_verify=True)
    assert request("--no-push", f"--context={URL}", options).context.source == source


@pytest.mark.parametrize("text", ["branch", "depth=x", "depth=-1", "shallow=true", "recurse-submodules=perhaps"])
def test_invalid_git_option_is_refused(text: str) -> None:
    if text == "branch":  # kaniko's default has it empty
        assert request("--no-push", f"--context={URL}#v1", f"--git={text}").context.source == GitSource(
            url=URL, ref="v1"
        )
        return
    with pytest.raises(UsageError, match="invalid option"):
        request("--no-push", f"--context={URL}", f"--git={text}")
    with pytest.raises(UsageError, match="not a git repository"):
        request("--no-push", "--context=.", "--git=depth=1")


def test_a_second_target_is_an_error() -> None:
    assert request("--no-push", "--target=a", "--target=a").plan.target == "a"
    with pytest.raises(UsageError, match="2 --target values given"):
        request("--no-push", "--target=a", "--target=b")


@pytest.mark.parametrize(
    ("flags", "sources", "target"),
    [
        ((), ("r.example.com/app/cache",), "r.example.com/app/cache"),
        (("--no-push-cache",), ("r.example.com/app/cache",), ""),
        (("--cache-repo=", "--cache-from=", "--cache-to="), ("r.example.com/app/cache",), "r.example.com/app/cache"),
        (("--cache-repo=a",), ("a",), "a"),
        (("--cache-repo=a", "--no-push-cache"), ("a",), ""),
        (("--cache-from=a", "--cache-from=b"), ("a", "b"), ""),
        (("--cache-from=a", "--cache-from=b", "--cache-from=a"), ("a", "b"), ""),
        (("--cache-repo=a", "--cache-from=b", "--cache-from=a"), ("a", "b"), "a"),
        (("--cache-from=a", "--cache-to=b"), ("a",), "b"),
        (("--cache-to=b",), (), "b"),
    ],
)
def test_where_layers_are_looked_up_and_stored(flags: tuple[str, ...], sources: tuple[str, ...], target: str) -> None:
    cache = request("--destination=r.example.com/app:1", "--cache", *flags).cache
    assert cache is not None
    assert (cache.sources, cache.target) == (sources, target)


@pytest.mark.parametrize("flag", ["--cache-repo=a", "--no-push-cache"])
def test_two_places_to_store_layers_conflict(flag: str) -> None:
    with pytest.raises(UsageError, match=f"conflicting flags --cache-to and {flag.partition('=')[0]}"):
        request("--destination=r.example.com/app:1", "--cache", "--cache-to=b", flag)


def test_flags_of_a_cache_without_the_cache_are_warned_of() -> None:
    assert unused_cache_flags(parse(["--cache-repo=a", "--cache-from=b", "--cache-to=c", "--cache-ttl=6h"], {})) == [
        "--cache-repo, --cache-from, --cache-to, --cache-ttl: no effect without --cache"
    ]
    assert unused_cache_flags(parse(["--cache", "--cache-repo=a"], {})) == unused_cache_flags(parse([], {})) == []


def test_a_dash_is_standard_input() -> None:
    assert request("--dockerfile=-").plan.dockerfile == "/dev/stdin"
    assert request("--dockerfile", "-").plan.dockerfile == "/dev/stdin"
    assert request("--dockerfile=./-").plan.dockerfile == "./-", "a file of that name"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--context=tar://stdin", "--dockerfile=-"], "--context and --dockerfile both read standard input"),
        (["--context=tar:///dev/fd/0", "-f", "/dev/stdin"], "--context and --dockerfile both read standard input"),
        (["--context=tar:///dev/fd/9", "-f", "/proc/self/fd/9"], "both read /proc/self/fd/9"),
        (["-f", "-", "--secret=id=a,src=/dev/stdin"], "--dockerfile and --secret both read standard input"),
        (["--secret=id=a,src=/dev/stdin", "--secret=id=b,src=/dev/fd/0"], "--secret and --secret both read standard"),
    ],
)
def test_a_stream_is_read_once(words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        request(*words)


def test_several_streams_are_read() -> None:
    made = request("--context=tar://stdin", "--dockerfile=/dev/fd/9")
    assert (made.context.source, made.plan.dockerfile) == (TarSource(path="-"), "/dev/fd/9")


def test_dash_as_context_is_ambiguous() -> None:
    with pytest.raises(UsageError, match='ambiguous --context value "-"') as caught:
        request("--context=-")
    assert "tar://stdin" in caught.value.hint
    assert "--dockerfile=-" in caught.value.hint
