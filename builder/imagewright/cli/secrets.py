"""``--secret`` and ``--ssh``, in the forms of docker buildx and of kaniko.

Checks that files exist and how large they are; never reads one, so that no value can get into a request or an error.
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
    """The secrets of ``--secret``, in order.

    Raises:
        UsageError: a malformed value, the same id twice, a missing file or variable.
    """
    sources: dict[str, SecretSource] = {}
    for value in values:
        source = _secret(value, environment)
        if source.id in sources:
            raise UsageError(f'duplicate --secret id "{source.id}"', hint="Give each secret an id of its own.")
        sources[source.id] = source
    return tuple(sources.values())


def _secret(value: str, environment: Mapping[str, str]) -> SecretSource:
    source, guessed = secret_place(value, environment)
    if source.env:
        _check_variable(source.id, source.env, environment)
        return source
    return SecretSource(id=source.id, file=_secret_file(source.id, source.file, guessed=guessed))


def secret_place(value: str, environment: Container[str]) -> tuple[SecretSource, bool]:
    """What one ``--secret`` names, and whether the file is only inferred from the id. Nothing is checked to exist.

    For command lines of another machine. ``environment`` has the names of its variables.

    Raises:
        UsageError: a malformed value.
    """
    fields = _fields(value)
    name = fields.get("id", "")
    if not name:
        raise UsageError("invalid --secret value: no id", hint=_SECRET_HINT)
    kind, file, variable = fields.get("type", ""), fields.get("src", ""), fields.get("env", "")
    if kind not in ("", "file", "env"):
        raise UsageError(f'invalid --secret "{name}": unknown type "{kind}"', hint=_SECRET_HINT)
    if file and variable:
        raise UsageError(f'invalid --secret "{name}": both src and env given', hint="Leave one of them out.")
    if kind == "env" and file:
        file, variable = "", file
    if kind == "file" and variable:
        raise UsageError(
            f'invalid --secret "{name}": env={variable} contradicts type=file', hint="Leave type=file out."
        )
    if not file and not variable:
        # As in buildx: the variable of that name if there is one, else the file.
        if kind == "env" or (not kind and name in environment):
            variable = name
        else:
            file = name
    if variable:
        return SecretSource(id=name, env=variable), False
    return SecretSource(id=name, file=file), not fields.get("src")


def _fields(value: str) -> dict[str, str]:
    """The ``key=value`` pairs, quoted as in CSV. A part that isn't a pair may be a secret, so it isn't shown."""
    fields: dict[str, str] = {}
    for field in next(csv.reader([value]), []):
        key, equals, text = field.partition("=")
        key = key.lower()
        if not equals:
            raise UsageError("invalid --secret value: a part is not key=value", hint=_SECRET_HINT)
        if key not in _FIELDS:
            near = difflib.get_close_matches(key, _FIELDS, n=1)
            raise UsageError(
                f'invalid --secret value: unknown field "{key}"',
                hint=f"Did you mean {near[0]}?" if near else _SECRET_HINT,
            )
        key = "src" if key == "source" else key
        if key in fields:
            raise UsageError(f'invalid --secret value: duplicate field "{key}"', hint=_SECRET_HINT)
        fields[key] = text
    return fields


def _check_variable(name: str, variable: str, environment: Mapping[str, str]) -> None:
    if variable not in environment:
        raise UsageError(
            f'cannot read --secret "{name}": the environment variable {variable} is not set',
            hint="Set it, to nothing if the secret is empty, or name a file with src=FILE.",
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
                f'cannot read --secret "{name}": no environment variable and no file has this name',
                hint=_SECRET_HINT,
            ) from None
        raise UsageError(f'cannot read --secret "{name}" from {path}: {why}', hint=_SECRET_HINT) from None
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(
            f'cannot read --secret "{name}" from {path}: is a directory', hint="Use one --secret for each file."
        )
    if not os.access(path, os.R_OK):
        raise UsageError(
            f'cannot read --secret "{name}" from {path}: Permission denied',
            hint="Let the user that the build runs as read the file.",
        )
    if status.st_size > MAX_SECRET_BYTES:
        raise _too_big(name)
    return os.path.abspath(path)


def _too_big(name: str) -> UsageError:
    return UsageError(
        f'cannot use --secret "{name}": larger than {MAX_SECRET_BYTES // 1024} KiB',
        hint="Use --build-context and RUN --mount=type=bind,from=… for larger files.",
    )


def ssh_sources(values: Iterable[str], environment: Mapping[str, str]) -> tuple[SshSource, ...]:
    """The agents and keys of ``--ssh``, in order.

    Raises:
        UsageError: the same id twice, no agent, a missing path, an agent together with other paths.
        UnsupportedError: ``raw=true``.
    """
    sources: dict[str, SshSource] = {}
    for value in values:
        name, _, listed = value.partition("=")
        name = name or DEFAULT_SSH_ID
        if name in sources:
            raise UsageError(
                f'duplicate --ssh id "{name}"', hint=f"Write all keys in one: --ssh {name}=KEYFILE,KEYFILE."
            )
        paths = tuple(path for path in listed.split(",") if path)
        _check_raw(name, paths)
        paths = tuple(path for path in paths if not path.startswith("raw="))
        sources[name] = SshSource(id=name, paths=_ssh_paths(name, paths) if paths else _agent(name, environment))
    return tuple(sources.values())


def _check_raw(name: str, paths: Iterable[str]) -> None:
    for path in paths:
        if path.startswith("raw=") and path.removeprefix("raw=").lower() not in ("false", "f", "0"):
            raise UnsupportedError(
                f'cannot serve --ssh "{name}" with {path}: RUN gets an agent that lists keys and signs, and no other socket',
                hint="Leave it out.",
            )


def _agent(name: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    path = environment.get(_AGENT_VARIABLE, "")
    if not path:
        raise UsageError(
            f'cannot serve --ssh "{name}": no agent, {_AGENT_VARIABLE} is not set',
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
            raise UsageError(f'cannot serve --ssh "{name}" from {path}: {why}', hint=_SSH_HINT) from None
        if not stat.S_ISSOCK(mode) and not stat.S_ISREG(mode):
            raise UsageError(f'cannot serve --ssh "{name}" from {path}: neither a socket nor a file', hint=_SSH_HINT)
        sockets += stat.S_ISSOCK(mode)
    if sockets and len(paths) > 1:
        raise UsageError(
            f'cannot serve --ssh "{name}": an agent\'s socket together with other paths',
            hint="Add the keys to the agent, or use two ids.",
        )
    return tuple(os.path.abspath(path) for path in paths)
