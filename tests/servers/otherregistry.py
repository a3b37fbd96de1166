"""A registry of another make: Google's go-containerregistry, over TLS, with a login (tests/servers/go/otherregistry).

Starts one process and writes below ``state``. Called by tests.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from types import TracebackType

from cluster.certificates import Authority, Identity
from cluster.processes import eventually
from servers.buckets import free_port
from servers.programs import programs


class OtherRegistry:
    """Runs from construction to ``close``; also a context manager. Every request needs the login (Basic)."""

    def __init__(self, state: Path, username: str, password: str) -> None:
        state.mkdir(parents=True, exist_ok=True)
        Authority(state, "imagewright other registry").issue(Identity("server", "localhost", hosts=("localhost",)))
        self.ca_file = state / "ca.crt"
        self.log = state / "registry.log"
        self.port = free_port()
        command = [str(programs() / "otherregistry"), f"127.0.0.1:{self.port}", str(state / "blobs")]
        (state / "blobs").mkdir()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, f"{state}/server.crt", f"{state}/server.key", username, password], stdout=log, stderr=log
            )
        try:
            eventually(self._answers, "the registry to answer", problem=self.log.read_text)
        except BaseException:
            self.close()
            raise

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> OtherRegistry:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0
