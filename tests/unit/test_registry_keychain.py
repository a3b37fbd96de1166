"""docker's config.json: which login is for which registry, and nothing for those that only look alike."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from imagewright.errors import Reason, RegistryError
from imagewright.registry.answers import FRESH_S, Answers
from imagewright.registry.auth import Login
from imagewright.registry.keychain import Keychain


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def load(folder: Path, value: object) -> Keychain:
    (folder / "config.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return Keychain.load(str(folder))


def user(keychain: Keychain, registry: str, repository: str = "team/app") -> str:
    login = keychain.find(registry, repository)
    return login.username if login else ""


@pytest.mark.parametrize(
    "key",
    [
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "https://index.docker.io/v1/",
        "https://index.docker.io/v1",
        "https://registry-1.docker.io/v2/",
    ],
)
def test_docker_hub_has_many_names(tmp_path: Path, key: str) -> None:
    assert user(load(tmp_path, {"auths": {key: auth("me:secret")}}), "docker.io") == "me"


@pytest.mark.parametrize("key", ["registry.test:5000", "https://registry.test:5000", "http://registry.test:5000/v2/"])
def test_a_key_may_be_an_address(tmp_path: Path, key: str) -> None:
    assert user(load(tmp_path, {"auths": {key: auth("me:secret")}}), "registry.test:5000") == "me"


@pytest.mark.parametrize(
    "registry",
    [
        "registry.test.evil.test",
        "evil-registry.test",
        "registry.tes",
        "registry.test:5000",
        "sub.registry.test",
        "docker.io",
    ],
)
def test_hosts_are_matched_whole(tmp_path: Path, registry: str) -> None:
    assert user(load(tmp_path, {"auths": {"registry.test": auth("me:secret")}}), registry) == ""


def test_the_longest_path_wins(tmp_path: Path) -> None:
    keys = {"r.test": "host", "r.test/team": "team", "https://r.test/team/app": "app", "r.test/te": "prefix"}
    keychain = load(tmp_path, {"auths": {key: auth(f"{name}:x") for key, name in keys.items()}})
    found = {r: user(keychain, "r.test", r) for r in ("team/app", "team/app/sub", "team/other", "teams/app", "app")}
    assert found == {"team/app": "app", "team/app/sub": "app", "team/other": "team", "teams/app": "host", "app": "host"}


def test_forms_of_a_login(tmp_path: Path) -> None:
    value = {
        "auths": {
            "a.test": auth("me:se:cret") | {"email": "x"},
            "b.test": {"username": "me", "password": "plain"},
            "c.test": auth("00000000-0000-0000-0000-000000000000:") | {"identitytoken": "refresh"},
            "d.test": {"registrytoken": "ready"},
            "e.test": {},
            "f.test": auth("me:p\u00e4ss"),
        }
    }
    keychain = load(tmp_path, value)
    assert keychain.find("a.test", "x") == Login("me", "se:cret")
    assert keychain.find("b.test", "x") == Login("me", "plain")
    assert keychain.find("c.test", "x") == Login("00000000-0000-0000-0000-000000000000", "", "refresh")
    assert keychain.find("d.test", "x") == Login(registry_token="ready")
    assert keychain.find("e.test", "x") is None
    assert keychain.find("f.test", "x") == Login("me", "p\u00e4ss")


def test_no_file_is_no_login(tmp_path: Path) -> None:
    assert Keychain.load(str(tmp_path)).find("docker.io", "library/debian") is None
    (tmp_path / "file").touch()
    assert Keychain.load(str(tmp_path / "file")).find("docker.io", "library/debian") is None


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path, {"auths": {"a.test": auth("me:x")}})
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert user(Keychain.load(None), "a.test") == "me"
    monkeypatch.setenv("DOCKER_CONFIG", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / ".docker").mkdir(parents=True)
    load(tmp_path / "home" / ".docker", {"auths": {"a.test": auth("home:x")}})
    assert user(Keychain.load(None), "a.test") == "home"


@pytest.mark.parametrize(
    "value",
    [
        "not json",
        "[]",
        "[" * 100_000,
        '{"auths": ["a.test"]}',
        '{"auths": {"a.test": 7}}',
        '{"auths": {"a.test": {"auth": "%%%"}}}',
        '{"auths": {"a.test": {"auth": "bm9jb2xvbg=="}}}',
        '{"auths": {"a.test": {"auth": "//79"}}}',
        '{"credHelpers": "x"}',
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, value: str) -> None:
    with pytest.raises(RegistryError, match=r"cannot read .*config\.json") as caught:
        load(tmp_path, value)
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert caught.value.hint


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(RegistryError, match=r"cannot read .*config\.json"):
        Keychain.load(str(tmp_path))


def test_an_entry_beside_a_helper_serves(tmp_path: Path) -> None:
    keychain = load(tmp_path, {"credHelpers": {"a.test": "helper"}, "auths": {"a.test": auth("me:x")}})
    assert user(keychain, "a.test") == "me"


def test_passwords_stay_out_of_representations() -> None:
    assert "secret" not in repr(Login("me", "secret", "secret", "secret"))


@pytest.mark.parametrize(
    ("entry", "flaw"),
    [
        (auth("me:secret\n"), "the password ends with a newline"),
        (auth("me:secret\r\n"), "the password ends with a newline"),
        ({"username": "me", "password": "secret\n"}, "the password ends with a newline"),
        ({"username": "me\n", "password": "secret"}, "the user name ends with a newline"),
        ({"identitytoken": "refresh\n"}, "the identity token ends with a newline"),
        ({"registrytoken": "ready\n"}, "the registry token ends with a newline"),
        (auth("me:sec\tret"), "the password contains a control character"),
    ],
)
def test_a_login_that_nobody_takes_is_told_to_who_is_refused(tmp_path: Path, entry: dict[str, str], flaw: str) -> None:
    keychain = load(tmp_path, {"auths": {"a.test": entry, "b.test": auth("me:secret")}})
    assert keychain.find("a.test", "x") is not None
    assert keychain.find("b.test", "x") is not None
    assert keychain.errors("a.test") == (
        f"In the login for a.test {flaw}: encode it with printf '%s' instead of echo.",
    )
    assert keychain.errors("b.test") == ()


def test_a_newline_after_the_base64_means_nothing(tmp_path: Path) -> None:
    entry = {"auth": auth("me:secret")["auth"] + "\n"}
    keychain = load(tmp_path, {"auths": {"a.test": entry}})
    assert keychain.find("a.test", "x") == Login("me", "secret")
    assert keychain.errors("a.test") == ()


# --- a file that is replaced or rewritten while a build runs

OLD, NEW = json.dumps({"auths": {"a.test": auth("me:old")}}), json.dumps({"auths": {"a.test": auth("me:new")}})


def loaded(folder: Path) -> tuple[Keychain, Login]:
    keychain = load(folder, OLD)
    login = keychain.find("a.test", "app")
    assert login == Login("me", "old")
    return keychain, login


def test_a_refused_login_is_read_again(tmp_path: Path) -> None:
    keychain, old = loaded(tmp_path)
    (tmp_path / "config.json").write_text(NEW)
    assert keychain.find("a.test", "app") == old, "it is not read without need"
    assert keychain.renew("a.test", "app", old) == keychain.find("a.test", "app") == Login("me", "new")
    (tmp_path / "config.json").write_text(OLD)
    assert keychain.renew("a.test", "app", old) == Login("me", "new"), "another request has renewed it"


def test_a_login_that_is_the_same_is_not_sent_again(tmp_path: Path) -> None:
    keychain, old = loaded(tmp_path)
    assert keychain.renew("a.test", "app", old) is None
    assert keychain.errors("a.test") == ()


@pytest.mark.parametrize("partial", ["", NEW[:-10], None])
def test_a_file_that_is_being_written_is_read_when_it_is_whole(
    tmp_path: Path, partial: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    keychain, old = loaded(tmp_path)
    path, pauses = tmp_path / "config.json", []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            path.write_text(NEW)

    monkeypatch.setattr("time.sleep", pause)
    path.unlink() if partial is None else path.write_text(partial)
    assert keychain.renew("a.test", "app", old) == Login("me", "new")


@pytest.mark.parametrize(("left", "said"), [("half", 'config.json": it is not JSON)'), (None, "")])
def test_a_file_that_cannot_be_read_again_leaves_the_login(
    tmp_path: Path, left: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keychain, old = loaded(tmp_path)
    monkeypatch.setattr("time.sleep", lambda _: None)
    (tmp_path / "config.json").unlink() if left is None else (tmp_path / "config.json").write_text(left)
    assert keychain.renew("a.test", "app", old) is None
    assert keychain.find("a.test", "app") == old
    assert said in "".join(keychain.errors("a.test"))


def test_another_folder_at_the_same_path_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "docker"
    folder.mkdir()
    keychain, old = loaded(folder)
    folder.rename(tmp_path / "before")
    folder.mkdir()
    (folder / "config.json").write_text(NEW)
    assert keychain.renew("a.test", "app", old) is None


def test_nobody_is_asked_again_once_answers_are_held() -> None:
    seconds = iter(range(0, 1000, int(FRESH_S) + 1))
    answers = Answers[str](lambda: next(seconds))
    asked: list[Login] = []

    def ask() -> Login:
        asked.append(Login("user", str(len(asked))))
        return asked[-1]

    assert answers.find("a", ask) == Login("user", "0")
    answers.renew("a", ask)
    assert answers.find("a", ask) == Login("user", "1")
    answers.hold()
    answers.renew("a", ask)
    assert answers.find("a", ask) == Login("user", "1")
    assert answers.find("b", ask) is None
    assert len(asked) == 2
