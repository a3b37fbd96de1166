"""``imagewright login``, like kaniko's subcommand: adds a login to docker's config.json.

Reads standard input, reads and writes one file.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from imagewright.cli.arguments import parse
from imagewright.cli.command import Command, Flag, Kind
from imagewright.errors import ImagewrightError, Reason, UsageError
from imagewright.reference import DOCKER_HUB, DOCKER_HUB_ALIASES
from imagewright.store.files import replacing

_HUB_KEY = "https://index.docker.io/v1/"
_MAX_BYTES = 1 << 20

FLAGS: tuple[Flag, ...] = (
    Flag("username", Kind.TEXT, "USER", "name of the user", "u"),
    Flag(
        "password",
        Kind.TEXT,
        "PASSWORD",
        "password or token; visible to other users of the machine while this runs",
        "p",
    ),
    Flag("password-stdin", Kind.BOOLEAN, "", "read the password from standard input"),
)


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Write the login for one registry; the rest of the file is kept.

    Raises:
        UsageError: no user or password, two passwords, several registries.
        ImagewrightError: the file is not a config.json, or can't be written.
    """
    arguments = parse(words, environment, FLAGS, takes_words=True)
    if len(arguments.words) > 1:
        raise UsageError(
            "more than one registry given", hint="Run imagewright login registry.example.com -u USER --password-stdin."
        )
    registry = (arguments.words or [DOCKER_HUB])[0].removeprefix("https://").removeprefix("http://").rstrip("/")
    username = arguments.text("username")
    if not username:
        raise UsageError(
            "no --username given", hint="Run imagewright login registry.example.com -u USER --password-stdin."
        )
    if arguments.flag("password-stdin") == bool(arguments.text("password")):
        raise UsageError(
            "exactly one of --password and --password-stdin is required",
            hint='Run, for example, echo "$TOKEN" | imagewright login --password-stdin ….',
        )
    password = arguments.text("password") or sys.stdin.read(_MAX_BYTES).rstrip("\r\n")
    if not password:
        raise UsageError("the password is empty", hint="Check that the variable with the password is set.")
    folder = environment.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    path = os.path.join(folder, "config.json")
    config = _read(path)
    key = _HUB_KEY if registry in DOCKER_HUB_ALIASES or registry == DOCKER_HUB else registry
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    auths = config.setdefault("auths", {})
    if not isinstance(auths, dict):
        raise _bad(path, "auths is not an object")
    auths[key] = {"auth": auth}
    _write(path, config)
    print(f"login for {registry} saved in {path}")
    return 0


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            config = json.loads(file.read(_MAX_BYTES))
    except FileNotFoundError:
        return {}
    except OSError as error:
        hint = "Check its mode and owner." if isinstance(error, PermissionError) else _FORM
        raise _bad(path, str(error.strerror), hint) from error
    except (ValueError, RecursionError):
        raise _bad(path, "it is not JSON") from None
    if not isinstance(config, dict):
        raise _bad(path, "it is not a JSON object")
    return config


def _write(path: str, config: Mapping[str, Any]) -> None:
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with replacing(path) as file:
            os.fchmod(file.fileno(), 0o600)  # before there is anything to read
            file.write(json.dumps(config, indent=2).encode() + b"\n")
    except OSError as error:
        raise ImagewrightError(
            f"cannot write {path}: {error.strerror}",
            reason=Reason.OUTPUT_FAILED,
            hint="Set DOCKER_CONFIG to a writable directory, which a mounted Secret is not.",
        ) from error


_FORM = "Use a config.json of docker's."


def _bad(path: str, why: str, hint: str = _FORM) -> ImagewrightError:
    return ImagewrightError(
        f"cannot add a login to {path}: {why}",
        reason=Reason.REGISTRY_AUTH_FAILED,
        hint=f"{hint} The file was not changed.",
    )


COMMANDS = {
    "login": Command("imagewright login [REGISTRY]", FLAGS, lambda words, environment, _: run(words, environment))
}
