"""The git program, confined: its own configuration instead of the system's, no hooks, no prompts, no shell.

Runs git; writes logins and keys to a directory of mode 0700 that ``close`` removes.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

from imagewright.context.git.address import Address, Login, read_git_secret
from imagewright.context.git.errors import GitError, explain
from imagewright.context.job import Machine
from imagewright.contract.sources import GitSource
from imagewright.descent import remove_tree
from imagewright.errors import Reason, SourceError
from imagewright.programs import find_program

_PASSED_ON = (
    "PATH", "PYTHONHOME", "LD_LIBRARY_PATH", "GIT_EXEC_PATH", "GIT_SSL_CAPATH", "SSH_AUTH_SOCK",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "USER", "LOGNAME",
)  # fmt: skip
# git runs this program for the login. It answers for one server only: after a redirect, git asks for another's.
# It is Python because the executor's image has no shell.
_ASKPASS = """#!{python} -S
import os, sys
kind, _, place = (sys.argv[1] if len(sys.argv) > 1 else "").partition(" for '")
place = place.rstrip().removesuffix("':")
scheme, _, host = place.partition("://")
origin = scheme + "://" + host.rpartition("@")[2].rstrip("/")
name = {{"Username": "IMAGEWRIGHT_GIT_USERNAME", "Password": "IMAGEWRIGHT_GIT_PASSWORD"}}.get(kind)
if name is None or name not in os.environ or origin != os.environ["IMAGEWRIGHT_GIT_ORIGIN"]:
    sys.exit(1)
os.write(1, os.fsencode(os.environ[name]) + b"\\n")
"""
_SSH = """#!{python} -S
import os, sys
os.execv({ssh!r}, ["ssh", *{options!r}, *sys.argv[1:]])
"""
# A server that sends less than 1,000 bytes a second for a minute has stalled.
_CONFIGURATION = """[core]
\thooksPath = /dev/null
\tfsmonitor = false
[init]
\ttemplateDir =
[safe]
\tdirectory = *
[gc]
\tauto = 0
[maintenance]
\tauto = false
[protocol]
\tversion = 2
[advice]
\tdetachedHead = false
[credential]
\thelper =
[http]
\tlowSpeedLimit = 1000
\tlowSpeedTime = 60
\tfollowRedirects = {redirects}
\tsslVerify = {verify}
"""


class Git:
    """Runs git for one source. ``run`` may be used for several repositories; ``close`` removes logins and keys."""

    def __init__(self, source: GitSource, address: Address, login: Login, machine: Machine) -> None:
        self._login = login
        self._machine = machine
        self._git, self._ssh = (find_program(name, machine.environment.get("PATH")) for name in ("git", "ssh"))
        self._private = tempfile.mkdtemp(prefix="git-private-", dir=machine.work_dir)
        try:
            self._env = self._environment(source, address, machine.environment)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        remove_tree(self._private, ignore_errors=True)

    def run(self, *words: str, url: str, git_dir: str = "", work_tree: str = "") -> str:
        """Run git; its standard output. Errors name ``url``. Transient failures are retried: a Pod's network may be set
        up seconds after the Pod starts.

        Raises:
            GitError
        """
        policy = self._machine.retry
        for retry in range(1, policy.retries + 1):
            try:
                return self._run(*words, url=url, git_dir=git_dir, work_tree=work_tree)
            except GitError as error:
                if error.reason is not Reason.SOURCE_UNREACHABLE:
                    raise
                delay_s = policy.wait_s(retry)
                self._machine.log(f"{error.message}; retrying in {delay_s:.1f} s")
                time.sleep(delay_s)
        return self._run(*words, url=url, git_dir=git_dir, work_tree=work_tree)

    def _run(self, *words: str, url: str, git_dir: str, work_tree: str) -> str:
        if self._git is None:
            raise _not_installed()
        places = ([f"--git-dir={git_dir}"] if git_dir else []) + ([f"--work-tree={work_tree}"] if work_tree else [])
        try:
            done = subprocess.run(
                [self._git, *places, *words],
                env=self._env,
                cwd=work_tree or self._private,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                umask=0o022,  # the modes of a context must not depend on who builds
            )
        except FileNotFoundError:
            raise _not_installed() from None
        if done.returncode:
            raise explain(url, words[0], done.stderr.decode("utf-8", "replace"), self._login)
        return done.stdout.decode("utf-8", "surrogateescape")

    # --- git's environment and configuration

    def _environment(self, source: GitSource, address: Address, environment: Mapping[str, str]) -> dict[str, str]:
        secret = read_git_secret(source)
        env = {name: environment[name] for name in _PASSED_ON if environment.get(name)}
        env |= {
            "HOME": self._private,
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": self._write("config", self._configuration(source, address)),
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": self._write("askpass", _ASKPASS.format(python=_python()), 0o700),
            "GIT_ALLOW_PROTOCOL": "https:http:ssh",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_SSH": self._write("ssh", self._ssh_program(secret), 0o700),
            "GIT_SSH_VARIANT": "ssh",
            "IMAGEWRIGHT_GIT_ORIGIN": address.origin,
        }
        if self._login.username or self._login.password:
            # Only the same user can read the environment, like a file; everyone can read arguments.
            env["IMAGEWRIGHT_GIT_USERNAME"] = self._login.username
            env["IMAGEWRIGHT_GIT_PASSWORD"] = self._login.password
        trusted = self._trusted(secret, environment)
        if trusted:
            env["GIT_SSL_CAINFO"] = trusted
        return env

    def _configuration(self, source: GitSource, address: Address) -> str:
        bearer = self._login.bearer
        # git sends a header to every server that it is redirected to; a password only where the askpass program allows
        # it.
        redirects = "false" if bearer else "initial"
        verify = "false" if source.insecure_skip_tls_verify else "true"
        text = _CONFIGURATION.format(redirects=redirects, verify=verify)
        if bearer and address.origin:
            quoted = bearer.replace("\\", "\\\\").replace('"', '\\"')
            text += f'[http "{address.origin}/"]\n\textraHeader = "Authorization: Bearer {quoted}"\n'
        return text

    def _trusted(self, secret: Mapping[str, bytes], environment: Mapping[str, str]) -> str:
        """One file of all trusted CAs: SSL_CERT_FILE, GIT_SSL_CAINFO and the Secret's ca.crt, since submodules may be
        on other servers. (``cli.trust`` has added those of SSL_CERT_DIR to the former.)"""
        files = {environment[name]: None for name in ("SSL_CERT_FILE", "GIT_SSL_CAINFO") if environment.get(name)}
        more = [secret.get("ca.crt", b"")]
        if not any(more) and len(files) < 2:
            return next(iter(files), "")
        for path in files or [ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"]:
            try:
                with open(path, "rb") as file:
                    more.append(file.read())
            except OSError:
                pass  # an image without certificates trusts only the given ones
        return self._write("ca.crt", b"\n".join(more))

    def _ssh_program(self, secret: Mapping[str, bytes]) -> str:
        ssh = self._ssh or "/usr/bin/ssh"  # without one git's own message names this
        return _SSH.format(python=_python(), ssh=ssh, options=self._ssh_options(secret))

    def _ssh_options(self, secret: Mapping[str, bytes]) -> list[str]:
        options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=20"]
        identity, known_hosts = secret.get("identity", b""), secret.get("known_hosts", b"")
        if identity:
            # A copy: ssh refuses keys that a group can read, as mounted ones may be, or without a final line break.
            key = self._write("identity", identity.rstrip() + b"\n", 0o600)
            options += ["-F", "/dev/null", "-i", key, "-o", "IdentitiesOnly=yes"]
        if identity or known_hosts:
            known = self._write("known_hosts", known_hosts)
            options += ["-o", f'UserKnownHostsFile="{known}"', "-o", "StrictHostKeyChecking=yes"]
        return options

    def _write(self, name: str, content: str | bytes, mode: int = 0o600) -> str:
        path = os.path.join(self._private, name)
        data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
        return path


def _not_installed() -> SourceError:
    return SourceError(
        "cannot run git: the program is not installed", hint="Install git, or use another kind of context."
    )


def _python() -> str:
    """The interpreter, not a virtual environment's link to it: a short path without spaces."""
    return os.path.realpath(sys.executable)
