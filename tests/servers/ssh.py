"""A real OpenSSH server on a port of its own, for git over ssh as the user that runs the tests.

``why_not`` says why a machine can't run it.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

_SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
_CONFIGURATION = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
AcceptEnv GIT_PROTOCOL
"""


def why_not() -> str:
    """Why there can be no ssh server here; empty when there can."""
    return "" if os.path.exists(_SSHD) and shutil.which("ssh") else "sshd and ssh are needed: run scripts/setup as root"


class SshServer:
    """Serves from construction to ``close``.

    ``identity`` is a private key that it accepts, ``known_hosts`` its own line.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("host", "identity", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        shutil.copy(folder / "identity.pub", folder / "authorized_keys")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.user = getpass.getuser()
        self.identity = (folder / "identity").read_bytes()
        self.stranger = (folder / "stranger").read_bytes()
        kind, key = (folder / "host.pub").read_text().split()[:2]
        self.known_hosts = f"[127.0.0.1]:{self.port} {kind} {key}\n"
        configuration = folder / "sshd_config"
        configuration.write_text(_CONFIGURATION.format(port=self.port, folder=folder))
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", 0o755, exist_ok=True)  # sshd's own, which its service would make
        self._log = (folder / "log").open("wb")
        command = [_SSHD, "-D", "-e", "-f", str(configuration)]
        self._process = subprocess.Popen(command, stderr=self._log, stdin=subprocess.DEVNULL)
        self._wait()

    def url(self, repository: Path) -> str:
        """The address of a repository of this machine."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}{repository}"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def __enter__(self) -> SshServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _wait(self) -> None:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        self.close()
        raise RuntimeError(f"sshd did not start: {Path(self._log.name).read_text()}")
