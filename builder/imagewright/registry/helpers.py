"""docker's credential helpers: programs that know logins (docker-credential-helpers, "get").

Starts a program. Called by ``registry.keychain``.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping

from imagewright.errors import Reason, RegistryError
from imagewright.registry.auth import Login

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TIMEOUT_S = 60.0
_MAX_ANSWER = 1 << 20
_TOKEN_USER = "<token>"  # noqa: S105 -- says that the secret is an identity token
# What helpers print, and exit with 1, where they know no login.
_NONE = ("credentials not found in native keychain", "no credentials server url", "no credentials username")


def ask_helper(name: str, server: str, environment: Mapping[str, str]) -> Login | None:
    """What ``docker-credential-NAME get`` knows of ``server``; None where it knows none.

    Raises:
        RegistryError: reason ``RegistryAuthFailed``: it isn't there, fails, takes too long or answers something else.
    """
    if not _NAME.fullmatch(name):
        raise _failed(name, "is no name of a program")
    try:
        done = subprocess.run(
            [f"docker-credential-{name}", "get"],
            input=server.encode(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            env=dict(environment),
        )
    except FileNotFoundError:
        raise _failed(name, f"is not here: there is no docker-credential-{name} in PATH") from None
    except subprocess.TimeoutExpired:
        raise _failed(name, f"did not answer within {_TIMEOUT_S:g} seconds") from None
    except OSError as error:
        raise _failed(name, f"can't be started: {error.strerror}") from error
    if done.returncode != 0:
        said = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
        if said.lower().startswith(_NONE):
            return None
        line = "".join(c if c.isprintable() else " " for c in said)[:200]
        raise _failed(name, f"failed with exit code {done.returncode}: {line or 'it said nothing'}")
    return _read(name, done.stdout)


def _read(name: str, answer: bytes) -> Login:
    try:
        if len(answer) > _MAX_ANSWER:
            raise ValueError
        value = json.loads(answer)
        username, secret = value["Username"], value["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        # Nothing of the answer: there may be a password in it.
        raise _failed(name, "answered with something that is no JSON object with Username and Secret") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise _failed(name, "answered with a Username or a Secret that is no text")
    return Login(identity_token=secret) if username == _TOKEN_USER else Login(username, secret)


def _failed(name: str, why: str) -> RegistryError:
    return RegistryError(
        f"the credential helper {name!r} {why}",
        reason=Reason.REGISTRY_AUTH_FAILED,
        hint="config.json names it in credHelpers or credsStore; a login in auths needs no helper.",
    )
