"""A real registry: the distribution project's own program, over http or https, with a login or without.

Starts one process and writes below ``state``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import bcrypt
from cluster.certificates import Authority, Identity
from cluster.processes import eventually
from servers.running import free_port


@dataclass(frozen=True, slots=True)
class RegistryServerOptions:
    """``program`` is the registry's; ``state`` gets content, certificates and the log.

    With a ``username`` every request needs it (Basic).
    """

    state: Path
    program: Path
    tls: bool = False
    username: str = ""
    password: str = ""
    port: int = 0


class RegistryServer:
    """Runs from construction to ``close``; also a context manager."""

    def __init__(self, options: RegistryServerOptions) -> None:
        self.options = options
        self.port = options.port or free_port()
        self.ca_file = options.state / "ca.crt"
        self.log = options.state / "registry.log"
        options.state.mkdir(parents=True, exist_ok=True)
        config = options.state / "registry.json"  # JSON is YAML
        config.write_text(json.dumps(self._config()))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(options.program), "serve", str(config)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
            )
        try:
            eventually(self._answers, "the registry to answer", problem=self.log.read_text)
        except BaseException:
            self.close()
            raise

    @property
    def host(self) -> str:
        return f"localhost:{self.port}" if self.options.tls else f"127.0.0.1:{self.port}"

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def set_password(self, password: str) -> None:
        """Change the password of ``username``: the registry reads the file again when it has changed."""
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        (self.options.state / "htpasswd").write_text(f"{self.options.username}:{hashed}\n")

    def __enter__(self) -> RegistryServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _config(self) -> dict[str, Any]:
        options = self.options
        state = options.state
        http: dict[str, Any] = {"addr": f"127.0.0.1:{self.port}"}
        if options.tls:
            Authority(state, "imagewright test registry").issue(Identity("server", "localhost", hosts=("localhost",)))
            http["tls"] = {"certificate": f"{state}/server.crt", "key": f"{state}/server.key"}
        content: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": f"{state}/content"}, "delete": {"enabled": True}},
            "http": http,
        }
        if options.username:
            self.set_password(options.password)
            content["auth"] = {"htpasswd": {"realm": "test", "path": f"{state}/htpasswd"}}
        return content

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        if self.options.tls:
            with socket.socket() as connection:
                return connection.connect_ex(("127.0.0.1", self.port)) == 0
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 401
        except OSError:
            return False
