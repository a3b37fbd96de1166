"""Logins that expire while a build runs, and are renewed meanwhile: cache and push use the new one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from servers.registry import RegistryServer, RegistryServerOptions
from servers.scripted import Answer, Asked, ScriptedServer
from servers.tokens import TokenGateway

if TYPE_CHECKING:
    from conftest import Engine  # pytest gives it; only its name is needed here

pytestmark = [pytest.mark.root, pytest.mark.registry]


@dataclass(frozen=True, slots=True)
class Private:
    """A registry with a login; ``expire`` makes the password another one, and what was granted for the old invalid."""

    host: str
    expire: Callable[[str], None]


@contextmanager
def basic(programs: Path, state: Path) -> Iterator[Private]:
    """Every request has the password."""
    options = RegistryServerOptions(state, programs / "registry", username="builder", password="before")
    with RegistryServer(options) as registry:
        yield Private(registry.host, registry.set_password)


@contextmanager
def bearer(programs: Path, state: Path) -> Iterator[Private]:
    """A token server has the password, and tokens expire with it."""
    with (
        RegistryServer(RegistryServerOptions(state, programs / "registry")) as registry,
        TokenGateway(registry.host, "before") as gateway,
    ):
        yield Private(gateway.host, gateway.expire)


def write_login(folder: Path, host: str, password: str) -> None:
    login = base64.b64encode(f"builder:{password}".encode()).decode()
    (folder / "new").write_text(json.dumps({"auths": {host: {"auth": login}}}))
    (folder / "new").rename(folder / "config.json")


@pytest.mark.parametrize("kind", [basic, bearer])
@pytest.mark.parametrize("renewed", [True, False])
def test_a_login_that_expires_before_the_push(
    engine: Engine, programs: Path, kind: Callable[[Path, Path], AbstractContextManager[Private]], *, renewed: bool
) -> None:
    folder = engine.folder / "docker"
    folder.mkdir()
    with kind(programs, engine.folder / "private") as private:
        write_login(folder, private.host, "before")

        def expire(asked: Asked) -> Answer:
            if asked.method == "GET":
                private.expire("after")
                write_login(folder, private.host, "after" if renewed else "before")
            return Answer(200, {}, b"downloaded")

        with ScriptedServer(expire) as files:
            text = f"FROM busybox\nRUN echo a >/a\nADD http://{files.host}/file /\nRUN echo b >/b\n"
            flags = [f"--destination={private.host}/app:1", "--cache=true", f"--cache-repo={private.host}/cache"]
            built = engine.build(engine.context(text), *flags, env={"DOCKER_CONFIG": str(folder)})
            assert sum(asked.method == "GET" for asked in files.asked) == 1, "the login expires while it is fetched"
    if renewed:
        assert built.code == 0, built.stderr
        assert f"pushed {private.host}/app:1@{built.digest}" in built.stderr + built.stdout
        assert "cannot store" not in built.stderr + built.stdout, "the cache's login is the new one as well"
    else:
        assert "[RegistryAuthFailed]" in built.stderr
        assert f"{private.host}" in built.stderr
        assert "Check the user name" in built.stderr
