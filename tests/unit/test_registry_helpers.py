"""Credential helpers, which are programs that answer, refuse, fail, babble or hang; and logins that clouds and CI
systems give.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from imagebuilds.waiting import eventually

from imagewright.errors import Reason, RegistryError
from imagewright.registry import helpers
from imagewright.registry.auth import Login
from imagewright.registry.clouds import CloudKeychain, from_gitlab, from_variables
from imagewright.registry.dockerconfig import DockerConfig
from imagewright.registry.helpers import ask_helper
from imagewright.registry.keychain import Keychain

ANSWER = {"ServerURL": "a.test", "Username": "me", "Secret": "hunter2"}


class Programs:
    """Helpers in a folder of PATH, which note what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PATH": f"{folder}:{os.environ['PATH']}"}

    def add(self, name: str, script: str) -> None:
        path = self.folder / f"docker-credential-{name}"
        path.write_text(f'#!/bin/sh\necho "$1 $(cat)" >>{self.folder}/asked\n{script}\n')
        path.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def says(value: object) -> str:
    return f"echo '{json.dumps(value)}'"


def test_a_helper_is_asked_by_the_protocol_and_once_a_host(programs: Programs) -> None:
    programs.add("pass", says(ANSWER))
    fallback = CloudKeychain(programs.environment, ())
    keychain = Keychain(DockerConfig(helpers={"a.test": "pass"}), fallback)
    assert keychain.find("a.test", "team/app") == Login("me", "hunter2")
    assert keychain.find("a.test", "team/other") == Login("me", "hunter2")
    assert keychain.find("b.test", "app") is None
    assert programs.asked == ["get a.test"]


def test_a_store_is_asked_for_all_and_knows_docker_hub_by_its_old_name(programs: Programs) -> None:
    programs.add("store", says(ANSWER))
    keychain = Keychain(DockerConfig(store="store"), CloudKeychain(programs.environment, ()))
    assert keychain.find("docker.io", "library/alpine") == Login("me", "hunter2")
    assert programs.asked == ["get https://index.docker.io/v1/"]


def test_a_user_called_token_has_an_identity_token(programs: Programs) -> None:
    programs.add("acr", says(ANSWER | {"Username": "<token>"}))
    assert ask_helper("acr", "a.test", programs.environment) == Login(identity_token="hunter2")


def test_no_login_is_no_failure(programs: Programs) -> None:
    programs.add("none", "echo credentials not found in native keychain; exit 1")
    assert ask_helper("none", "a.test", programs.environment) is None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo it broke >&2; exit 3", "exit code 3: it broke"),
        ("exit 1", "no output"),
        ("echo hunter2", "not a JSON object"),
        (says(["hunter2"]), "not a JSON object"),
        (says({"Username": "me"}), "not a JSON object"),
        (says(ANSWER | {"Secret": 2}), "not a string"),
        ("head -c 2000000 /dev/zero", "not a JSON object"),
        ("exec sleep 60", "no response within"),
    ],
)
def test_a_helper_that_fails_is_named_and_its_secret_is_not(
    programs: Programs, script: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "_TIMEOUT_S", 1.0 if "sleep" in script else 60.0)
    programs.add("bad", script)
    with pytest.raises(RegistryError, match='credential helper "bad"') as caught:
        ask_helper("bad", "a.test", programs.environment)
    assert why in caught.value.message
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert caught.value.hint
    assert "hunter2" not in caught.value.render()


@pytest.mark.parametrize("name", ["../evil", "", "a/b", "-x"])
def test_a_helper_is_a_name_and_no_path(name: str, programs: Programs) -> None:
    with pytest.raises(RegistryError, match="the name is invalid"):
        ask_helper(name, "a.test", programs.environment)


def test_a_helper_that_is_not_here_matters_to_who_is_refused(programs: Programs) -> None:
    keychain = Keychain(DockerConfig(store="desktop"), CloudKeychain(programs.environment, ()))
    assert keychain.find("a.test", "public") is None
    assert "docker-credential-desktop not found in PATH" in "".join(keychain.errors("a.test"))
    named = Keychain(DockerConfig(helpers={"a.test": "gone"}), CloudKeychain(programs.environment, ()))
    with pytest.raises(RegistryError, match="docker-credential-gone not found in PATH"):
        named.find("a.test", "app")


def test_the_longest_path_wins_over_the_helper_of_the_host(programs: Programs) -> None:
    programs.add("pass", says(ANSWER))
    logins = {"a.test/team": Login("team", "x"), "a.test/team/app": Login("app", "y")}
    keychain = Keychain(DockerConfig(logins, {"a.test": "pass"}), CloudKeychain(programs.environment, ()))
    assert keychain.find("a.test", "team/app/web") == Login("app", "y")
    assert keychain.find("a.test", "team/other") == Login("team", "x")
    assert keychain.find("a.test", "teams/other") == Login("me", "hunter2")


@pytest.mark.parametrize(
    ("host", "variables", "user"),
    [
        ("registry.example.com", {"DOCKER_registry_example_com_USR": "a", "DOCKER_registry_example_com_PSW": "b"}, "a"),
        ("my-hub.example.com", {"DOCKER_my_hub_example_USR": "a", "DOCKER_my_hub_example_PSW": "b"}, "a"),
        ("registry.example.com:5000", {"DOCKER_registry_USR": "a", "DOCKER_registry_PSW": "b"}, "a"),
        ("registry.example.com", {"DOCKER_registry_example_com_USR": "a"}, ""),
        ("ghcr.io", {"GITHUB_TOKEN": "b", "GITHUB_ACTOR": "octo"}, "octo"),
        ("other.io", {"GITHUB_TOKEN": "b"}, ""),
    ],
)
def test_logins_in_variables(host: str, variables: dict[str, str], user: str) -> None:
    assert from_variables(host, variables) == (Login(user, "b") if user else None)


@pytest.mark.parametrize(
    ("variables", "login"),
    [
        ({"CI_REGISTRY_USER": "u", "CI_REGISTRY_PASSWORD": "p"}, Login("u", "p")),
        ({"CI_JOB_TOKEN": "t"}, Login("gitlab-ci-token", "t")),
        ({}, None),
    ],
)
def test_logins_of_a_gitlab_job(variables: dict[str, str], login: Login | None) -> None:
    job = {"CI_REGISTRY": "registry.example.com", **variables}
    assert from_gitlab("registry.example.com", job) == login
    assert from_gitlab("other.example.com", job) is None


def test_helpers_that_are_asked() -> None:
    job = {"CI_REGISTRY": "registry.example.com", "CI_JOB_TOKEN": "t"}
    assert CloudKeychain(job).find("registry.example.com") == Login("gitlab-ci-token", "t")
    assert CloudKeychain(job, ("env", "ecr")).find("registry.example.com") is None
    assert CloudKeychain(job, ()).find("registry.example.com") is None


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("store", [False, True])
def test_a_helper_is_asked_again_for_a_login_that_is_refused(programs: Programs, store: bool) -> None:
    clock = Clock()
    programs.add("short", 'printf \'{"Username": "me", "Secret": "%s"}\' $(wc -l <' + f"{programs.folder}/asked)")
    config = DockerConfig(store="short") if store else DockerConfig(helpers={"a.test": "short"})
    keychain = Keychain(config, CloudKeychain(programs.environment, ()), clock=clock)
    first = keychain.find("a.test", "app")
    assert first == Login("me", "1")
    clock.now_s = 9.0
    assert keychain.renew("a.test", "app", first) is None, "a login that is fresh has not expired"
    clock.now_s = 11.0
    assert keychain.renew("a.test", "app", first) == Login("me", "2")
    assert keychain.renew("a.test", "other", first) == Login("me", "2"), "not asked by each that was refused"
    assert len(programs.asked) == 2


@pytest.mark.parametrize("store", [False, True])
def test_a_helper_that_fails_later_leaves_its_login(programs: Programs, store: bool) -> None:
    clock = Clock()
    programs.add("short", says(ANSWER))
    config = DockerConfig(store="short") if store else DockerConfig(helpers={"a.test": "short"})
    keychain = Keychain(config, CloudKeychain(programs.environment, ()), clock=clock)
    first = keychain.find("a.test", "app")
    programs.add("short", "echo it broke; exit 3")
    clock.now_s = 11.0
    assert keychain.renew("a.test", "app", first) is None
    assert keychain.find("a.test", "app") == first
    assert "it broke" in "".join(keychain.errors("a.test"))
    programs.add("short", says(ANSWER | {"Secret": "new"}))
    clock.now_s = 22.0
    assert keychain.renew("a.test", "app", first) == Login("me", "new")
    assert keychain.errors("a.test") == ()


def test_a_helper_that_failed_is_asked_once_until_a_login_is_refused(programs: Programs) -> None:
    clock = Clock()
    programs.add("flaky", "exit 3")
    keychain = Keychain(DockerConfig(store="flaky"), CloudKeychain(programs.environment, ()), clock=clock)
    assert keychain.find("a.test", "app") is keychain.find("a.test", "app") is None
    assert len(programs.asked) == 1
    programs.add("flaky", says(ANSWER))
    clock.now_s = 11.0
    assert keychain.renew("a.test", "app", None) == Login("me", "hunter2")


def test_a_cloud_is_asked_again_for_a_login_that_is_refused() -> None:
    clock, job = Clock(), {"CI_REGISTRY": "a.test", "CI_JOB_TOKEN": "1"}
    keychain = Keychain(DockerConfig(), CloudKeychain(job, clock=clock), clock=clock)
    first = keychain.find("a.test", "app")
    job["CI_JOB_TOKEN"] = "2"
    assert keychain.renew("a.test", "app", first) is None, "a login that is fresh has not expired"
    clock.now_s = 11.0
    assert keychain.renew("a.test", "app", first) == Login("gitlab-ci-token", "2")
    del job["CI_REGISTRY"]
    clock.now_s = 22.0
    assert keychain.renew("a.test", "app", Login("gitlab-ci-token", "2")) is None
    assert keychain.find("a.test", "app") == Login("gitlab-ci-token", "2"), "the old login is kept"


def test_what_a_cloud_said_last_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    host, clock = "123456789012.dkr.ecr.eu-west-1.amazonaws.com", Clock()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    clouds = CloudKeychain({}, ("ecr",), clock)
    assert clouds.find(host) is None
    clock.now_s = 11.0
    clouds.renew(host)
    assert len(clouds.errors(host)) == 1


def test_a_slow_helper_delays_no_other_registry(programs: Programs, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    programs.add("slow", f"read line <{tmp_path}/go; {says(ANSWER)}")
    programs.add("quick", says({"Username": "other", "Secret": "x"}))
    config = DockerConfig(helpers={"a.test": "slow", "b.test": "quick"})
    keychain = Keychain(config, CloudKeychain(programs.environment, ()))
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(keychain.find, "a.test", "app")
        eventually(lambda: "get a.test" in programs.asked, "the slow helper's start")
        quick = pool.submit(keychain.renew, "b.test", "app", None)
        done, _ = wait([quick], timeout=30)
        with open(tmp_path / "go", "r+b", buffering=0) as go:  # for both: to open it waits for nobody
            go.write(b"\n")
            slow.result()
        assert done == {quick}
        assert (slow.result(), quick.result()) == (Login("me", "hunter2"), Login("other", "x"))


def test_nobody_is_asked_once_logins_are_held(programs: Programs) -> None:
    programs.add("pass", says(ANSWER))
    now = [0.0]
    keychain = Keychain(DockerConfig(store="pass"), CloudKeychain(programs.environment, ("env",)), clock=lambda: now[0])
    keychain.hold([("a.test", "app")], mounted=lambda path: True)
    programs.environment["DOCKER_c_test_USR"] = programs.environment["DOCKER_c_test_PSW"] = "x"
    now[0] = 1000
    assert keychain.find("a.test", "other") == Login("me", "hunter2")
    assert keychain.find("b.test", "app") is None
    assert keychain.find("c.test", "app") is None
    assert keychain.renew("a.test", "app", Login("me", "hunter2")) is None
    assert programs.asked == ["get a.test"]
    assert "not asked again" in keychain.errors("a.test")[0]
