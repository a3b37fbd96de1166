"""A registry of another make: Google's go-containerregistry, over TLS, with a login (tests/servers/go/otherregistry).

Starts one process and writes below ``state``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType

from cluster.certificates import Authority, Identity
from servers.programs import programs
from servers.running import free_port, running


class OtherRegistry:
    """Runs from construction to ``close``; also a context manager. Every request needs the login (Basic)."""

    def __init__(self, state: Path, username: str, password: str) -> None:
        state.mkdir(parents=True, exist_ok=True)
        Authority(state, "imagewright other registry").issue(Identity("server", "localhost", hosts=("localhost",)))
        self.ca_file = state / "ca.crt"
        self.log = state / "registry.log"
        self.port = free_port()
        (state / "blobs").mkdir()
        command = [str(programs() / "otherregistry"), f"127.0.0.1:{self.port}", str(state / "blobs")]
        command += [f"{state}/server.crt", f"{state}/server.key", username, password]
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(running(command, self.port, self.log))

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> OtherRegistry:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
