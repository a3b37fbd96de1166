"""docker's credential helpers: programs that store logins (docker-credential-helpers, "get").

Starts a program.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

from imagewright import jsontext
from imagewright.errors import Reason, RegistryError
from imagewright.http.failures import clean
from imagewright.programs import find_program
from imagewright.registry.auth import Login

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TIMEOUT_S = 60.0
_MAX_ANSWER = 1 << 20
_TOKEN_USER = "<token>"  # noqa: S105 -- says that the secret is an identity token
# What helpers print, and exit with 1, if they have no login.
_NONE = ("credentials not found in native keychain", "no credentials server url", "no credentials username")


def ask_helper(name: str, server: str, environment: Mapping[str, str]) -> Login | None:
    """The login of ``docker-credential-NAME get`` for ``server``; None if it has none.

    Raises:
        RegistryError: reason ``RegistryAuthFailed``: it is missing, fails, takes too long or prints something else.
    """
    if not _NAME.fullmatch(name):
        raise _failed(name, "the name is invalid")
    program = find_program(f"docker-credential-{name}", environment.get("PATH"))
    if program is None:
        raise _failed(name, f"docker-credential-{name} not found in PATH")
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            env=dict(environment),
        )
    except FileNotFoundError:
        raise _failed(name, f"docker-credential-{name} not found in PATH") from None
    except subprocess.TimeoutExpired:
        raise _failed(name, f"no response within {_TIMEOUT_S:g} seconds") from None
    except OSError as error:
        raise _failed(name, f"cannot start it: {error.strerror}") from error
    if done.returncode != 0:
        said = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
        if said.lower().startswith(_NONE):
            return None
        raise _failed(name, f"exit code {done.returncode}: {clean(said) or 'no output'}")
    return _read(name, done.stdout)


def _read(name: str, answer: bytes) -> Login:
    try:
        if len(answer) > _MAX_ANSWER:
            raise ValueError
        value = jsontext.loads(answer)
        username, secret = value["Username"], value["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        # The output is not shown: it may contain a password.
        raise _failed(name, "its output is not a JSON object with Username and Secret") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise _failed(name, "its Username or Secret is not a string")
    return Login(identity_token=secret) if username == _TOKEN_USER else Login(username, secret)


def _failed(name: str, why: str) -> RegistryError:
    return RegistryError(
        f'cannot get a login from the credential helper "{name}": {why}',
        reason=Reason.REGISTRY_AUTH_FAILED,
        hint="Check credHelpers and credsStore in config.json, or put the login into auths, which needs no helper.",
    )
