"""``--secret`` and ``--ssh``: what a RUN may see without its becoming part of the image.

Looks whether files are there and how big they are; never reads one, so that no value can get into a request or an error.
Called by ``cli.request``. The forms are those of docker buildx and of kaniko ("--secret", "--ssh").
"""

from __future__ import annotations

import csv
import difflib
import os
import stat
from collections.abc import Container, Iterable, Mapping

from imagewright.contract import DEFAULT_SSH_ID, MAX_SECRET_BYTES
from imagewright.contract.request import SecretSource, SshSource
from imagewright.errors import UnsupportedError, UsageError

_FIELDS = ("id", "src", "source", "env", "type")
_SECRET_HINT = "Write --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE."  # noqa: S105
_SSH_HINT = "Write --ssh default, --ssh NAME=SOCKET or --ssh NAME=KEYFILE."
_AGENT_VARIABLE = "SSH_AUTH_SOCK"


def secret_sources(values: Iterable[str], environment: Mapping[str, str]) -> tuple[SecretSource, ...]:
    """What ``--secret`` gives, in order.

    Raises:
        UsageError: a form that can't be read, the same id twice, a file or variable that is not there.
    """
    sources: dict[str, SecretSource] = {}
    for value in values:
        source = _secret(value, environment)
        if source.id in sources:
            raise UsageError(
                f"--secret gives {source.id} twice", hint="A secret has one source; give the other another id."
            )
        sources[source.id] = source
    return tuple(sources.values())


def _secret(value: str, environment: Mapping[str, str]) -> SecretSource:
    source, guessed = secret_place(value, environment)
    if source.env:
        _check_variable(source.id, source.env, environment)
        return source
    return SecretSource(id=source.id, file=_secret_file(source.id, source.file, guessed=guessed))


def secret_place(value: str, environment: Container[str]) -> tuple[SecretSource, bool]:
    """What one ``--secret`` names, without a look at whether it is there, and whether its file is but guessed.

    For those who read a command line of another machine. ``environment`` has the names of its variables.

    Raises:
        UsageError: a form that can't be read.
    """
    fields = _fields(value)
    name = fields.get("id", "")
    if not name:
        raise UsageError("--secret has no id", hint=_SECRET_HINT)
    kind, file, variable = fields.get("type", ""), fields.get("src", ""), fields.get("env", "")
    if kind not in ("", "file", "env"):
        raise UsageError(f"--secret id={name}: type={kind} is neither file nor env", hint=_SECRET_HINT)
    if file and variable:
        raise UsageError(f"--secret id={name} has both src and env", hint="Leave one of them out.")
    if kind == "env" and file:
        file, variable = "", file
    if kind == "file" and variable:
        raise UsageError(f"--secret id={name}: env={variable} is no file", hint="Leave type=file out.")
    if not file and not variable:
        # As buildx: the variable of that name where there is one, else the file.
        if kind == "env" or (not kind and name in environment):
            variable = name
        else:
            file = name
    if variable:
        return SecretSource(id=name, env=variable), False
    return SecretSource(id=name, file=file), not fields.get("src")


def _fields(value: str) -> dict[str, str]:
    """The comma-separated ``key=value`` pairs; quotes keep a comma, as in CSV. What isn't one may be a secret: not shown."""
    fields: dict[str, str] = {}
    for field in next(csv.reader([value]), []):
        key, equals, text = field.partition("=")
        key = key.lower()
        if not equals:
            raise UsageError("--secret has a part that is not key=value", hint=_SECRET_HINT)
        if key not in _FIELDS:
            near = difflib.get_close_matches(key, _FIELDS, n=1)
            raise UsageError(
                f"--secret has no field {key!r}", hint=f"Did you mean {near[0]}?" if near else _SECRET_HINT
            )
        key = "src" if key == "source" else key
        if key in fields:
            raise UsageError(f"--secret has {key} twice", hint=_SECRET_HINT)
        fields[key] = text
    return fields


def _check_variable(name: str, variable: str, environment: Mapping[str, str]) -> None:
    if variable not in environment:
        raise UsageError(
            f"--secret id={name}: the environment variable {variable} is not set",
            hint="Set it, empty if that is what it should be; a secret in a file is src=FILE.",
        )
    if len(os.fsencode(environment[variable])) > MAX_SECRET_BYTES:
        raise _too_big(name)


def _secret_file(name: str, path: str, *, guessed: bool) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        if guessed:
            raise UsageError(
                f"--secret id={name}: there is no environment variable and no file of that name",
                hint=_SECRET_HINT,
            ) from None
        raise UsageError(f"--secret id={name}: {path} can't be read: {why}", hint=_SECRET_HINT) from None
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(
            f"--secret id={name}: {path} is a folder", hint="A secret is one file; give each its own --secret."
        )
    if not os.access(path, os.R_OK):
        raise UsageError(
            f"--secret id={name}: {path} can't be read: Permission denied",
            hint="The file must be readable by the user that the build runs as.",
        )
    if status.st_size > MAX_SECRET_BYTES:
        raise _too_big(name)
    return os.path.abspath(path)


def _too_big(name: str) -> UsageError:
    return UsageError(
        f"--secret id={name}: it has more than {MAX_SECRET_BYTES // 1024} KiB",
        hint="What is larger than a secret can be given by --build-context and RUN --mount=type=bind,from=….",
    )


def ssh_sources(values: Iterable[str], environment: Mapping[str, str]) -> tuple[SshSource, ...]:
    """What ``--ssh`` gives, in order.

    Raises:
        UsageError: the same id twice, no agent, a path that is not there, an agent beside other paths.
        UnsupportedError: ``raw=true``.
    """
    sources: dict[str, SshSource] = {}
    for value in values:
        name, _, listed = value.partition("=")
        name = name or DEFAULT_SSH_ID
        if name in sources:
            raise UsageError(f"--ssh gives {name} twice", hint=f"Write all keys in one: --ssh {name}=KEYFILE,KEYFILE.")
        paths = tuple(path for path in listed.split(",") if path)
        _check_raw(name, paths)
        paths = tuple(path for path in paths if not path.startswith("raw="))
        sources[name] = SshSource(id=name, paths=_ssh_paths(name, paths) if paths else _agent(name, environment))
    return tuple(sources.values())


def _check_raw(name: str, paths: Iterable[str]) -> None:
    for path in paths:
        if path.startswith("raw=") and path.removeprefix("raw=").lower() not in ("false", "f", "0"):
            raise UnsupportedError(
                f"--ssh {name}: {path} is not supported: RUN is given an agent that lists keys and signs, and no other socket",
                hint="Leave it out.",
            )


def _agent(name: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    path = environment.get(_AGENT_VARIABLE, "")
    if not path:
        raise UsageError(
            f"--ssh {name}: there is no agent, {_AGENT_VARIABLE} is not set",
            hint=f"Start one (eval $(ssh-agent); ssh-add), or name a key: --ssh {name}=KEYFILE.",
        )
    return _ssh_paths(name, (path,))


def _ssh_paths(name: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    sockets = 0
    for path in paths:
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError(f"--ssh {name}: {path} can't be read: {why}", hint=_SSH_HINT) from None
        if not stat.S_ISSOCK(mode) and not stat.S_ISREG(mode):
            raise UsageError(f"--ssh {name}: {path} is neither a socket nor a file", hint=_SSH_HINT)
        sockets += stat.S_ISSOCK(mode)
    if sockets and len(paths) > 1:
        raise UsageError(
            f"--ssh {name} has an agent's socket beside other paths",
            hint="One id is one agent or some key files; add the keys to the agent, or use two ids.",
        )
    return tuple(os.path.abspath(path) for path in paths)
