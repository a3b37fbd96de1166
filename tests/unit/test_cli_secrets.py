"""--secret and --ssh as docker buildx and kaniko take them. No value ever reaches the request or an error."""

import socket
from pathlib import Path

import pytest

from imagewright.cli.secrets import secret_sources, ssh_sources
from imagewright.contract import MAX_SECRET_BYTES
from imagewright.contract.request import SecretSource, SshSource
from imagewright.errors import UnsupportedError, UsageError

ENVIRONMENT = {"TOKEN": "hunter2", "EMPTY": "", "BIG": "x" * (MAX_SECRET_BYTES + 1)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a secret, and one of the same name as a variable."""
    for name in ("npmrc", "TOKEN", "with,comma"):
        (tmp_path / name).write_text("hunter2")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def secret(value: str) -> SecretSource:
    (source,) = secret_sources([value], ENVIRONMENT)
    return source


@pytest.mark.parametrize(
    ("value", "file", "env"),
    [
        ("id=a,src=npmrc", "npmrc", ""),
        ("id=a,source=npmrc", "npmrc", ""),
        ("src=npmrc,id=a,type=file", "npmrc", ""),
        ("ID=a,SRC=npmrc", "npmrc", ""),
        ("id=a,env=TOKEN", "", "TOKEN"),
        ("id=a,env=EMPTY", "", "EMPTY"),
        ("id=a,type=env,env=TOKEN", "", "TOKEN"),
        ("type=env,id=a,src=TOKEN", "", "TOKEN"),
        ('id=a,"src=with,comma"', "with,comma", ""),
    ],
)
def test_forms(folder: Path, value: str, file: str, env: str) -> None:
    assert secret(value) == SecretSource(id="a", file=str(folder / file) if file else "", env=env)


def test_secret_without_a_source_is_the_variable_or_else_the_file(folder: Path) -> None:
    assert secret("id=TOKEN") == SecretSource(id="TOKEN", env="TOKEN")
    assert secret("id=npmrc") == SecretSource(id="npmrc", file=str(folder / "npmrc"))
    assert secret("id=TOKEN,type=file") == SecretSource(id="TOKEN", file=str(folder / "TOKEN"))


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        (["src=npmrc"], "no id", "id=NAME,src=FILE"),
        (["id=,src=npmrc"], "no id", "id=NAME,src=FILE"),
        ([""], "no id", "id=NAME,src=FILE"),
        (["id=a,src=nowhere"], 'cannot read --secret "a" from nowhere: No such file or directory', "src=FILE"),
        (["id=a,src=."], 'cannot read --secret "a" from .: is a directory', "each file"),
        (["id=nowhere"], "no environment variable and no file has this name", "src=FILE"),
        (["id=a,env=NOWHERE"], "the environment variable NOWHERE is not set", "Set it"),
        (["id=npmrc,type=env"], "the environment variable npmrc is not set", "src=FILE"),
        (["id=a,env=BIG"], "larger than 500 KiB", "--build-context"),
        (["id=a,src=npmrc,env=TOKEN"], "both src and env given", "Leave one"),
        (["id=a,type=file,env=TOKEN"], "env=TOKEN contradicts type=file", "type=file"),
        (["id=a,type=vault,src=npmrc"], 'unknown type "vault"', "id=NAME"),
        (["id=a,scr=npmrc"], 'unknown field "scr"', "src"),
        (["id=a,src=npmrc,src=TOKEN"], 'duplicate field "src"', "id=NAME"),
        (["id=a,src=npmrc", "id=a,env=TOKEN"], 'duplicate --secret id "a"', "id of its own"),
    ],
)
def test_invalid_values_are_refused(values: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        secret_sources(values, ENVIRONMENT)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "--secret" in caught.value.message


@pytest.mark.parametrize("value", ["id=a,hunter2", "hunter2", "id=a,env=TOKEN,hunter2"])
def test_misplaced_value_is_not_shown(value: str) -> None:
    with pytest.raises(UsageError, match="a part is not key=value") as caught:
        secret_sources([value], ENVIRONMENT)
    assert "hunter2" not in caught.value.render()


def test_too_large_a_file_is_refused(folder: Path) -> None:
    (folder / "big").write_bytes(b"x" * MAX_SECRET_BYTES)
    assert secret("id=big").file
    (folder / "big").write_bytes(b"x" * (MAX_SECRET_BYTES + 1))
    with pytest.raises(UsageError, match="larger than 500 KiB"):
        secret("id=big")


@pytest.fixture
def agent(folder: Path) -> str:
    """A socket, as an agent has one."""
    path = folder / "agent"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    return str(path)


def test_forms_of_ssh(folder: Path, agent: str) -> None:
    environment = {"SSH_AUTH_SOCK": agent}
    assert ssh_sources(["default"], environment) == (SshSource(paths=(agent,)),)
    assert ssh_sources(["work="], environment) == (SshSource(id="work", paths=(agent,)),)
    assert ssh_sources(["default=agent"], {}) == (SshSource(paths=(agent,)),)
    keys = (str(folder / "npmrc"), str(folder / "TOKEN"))
    assert ssh_sources(["a=npmrc,TOKEN,raw=false", "b=agent"], {}) == (
        SshSource(id="a", paths=keys),
        SshSource(id="b", paths=(agent,)),
    )


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        (["default"], "SSH_AUTH_SOCK is not set", "ssh-add"),
        (["default=nowhere"], "from nowhere: No such file", "KEYFILE"),
        (["default=."], "neither a socket nor a file", "KEYFILE"),
        (["default=npmrc", "default=TOKEN"], 'duplicate --ssh id "default"', "KEYFILE,KEYFILE"),
        (["default=npmrc", "=TOKEN"], 'duplicate --ssh id "default"', "KEYFILE,KEYFILE"),
        (["default=agent,npmrc"], "together with other paths", "two ids"),
    ],
)
def test_invalid_ssh_values_are_refused(agent: str, values: list[str], message: str, hint: str) -> None:
    assert agent
    with pytest.raises(UsageError) as caught:
        ssh_sources(values, {})
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "--ssh" in caught.value.message


def test_missing_agent_is_named() -> None:
    with pytest.raises(UsageError, match="from /nowhere/agent: No such file"):
        ssh_sources(["default"], {"SSH_AUTH_SOCK": "/nowhere/agent"})


def test_a_raw_socket_is_refused(agent: str) -> None:
    with pytest.raises(UnsupportedError, match="with raw=true: RUN gets an agent"):
        ssh_sources([f"default={agent},raw=true"], {})
