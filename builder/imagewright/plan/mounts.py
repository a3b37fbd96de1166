"""Plans ``RUN --mount``: expands and checks its options, with the defaults of the reference.

No I/O.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from imagewright.contract import DEFAULT_SSH_ID
from imagewright.dockerfile.model import Run
from imagewright.dockerfile.mounts import TYPES, MountOption, RunMount, options_of
from imagewright.dockerfile.source import did_you_mean
from imagewright.errors import DockerfileError
from imagewright.plan import paths
from imagewright.plan.gotext import parse_bool
from imagewright.plan.origins import ContextOrigin, Origin
from imagewright.plan.scope import StageScope
from imagewright.plan.steps import BindMount, CacheMount, CacheSharing, Mount, SecretMount, SshMount, TmpfsMount
from imagewright.records import dataclass

_OWNED = ("mode", "uid", "gid")
_ACCESS = ("readonly", "readwrite")
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,12})?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_MAX_ID = (1 << 32) - 2
_MAX_SIZE_BYTES = (1 << 63) - 1
_FORMATS = {8: "o", 10: "d"}


def plan_mounts(scope: StageScope, run: Run, origins: Mapping[str, Origin]) -> tuple[Mount, ...]:
    """The mounts of a RUN, in order. ``origins`` maps the names after ``from=`` to their origins.

    Raises:
        DockerfileError: an option that the type does not have, an invalid value, a missing or invalid target.
    """
    mounts: list[Mount] = []
    for raw in run.mounts:
        sockets = sum(isinstance(mount, SshMount) for mount in mounts)
        mounts.append(_Reader(scope, run, raw).mount(origins, sockets))
    return tuple(mounts)


@dataclass(frozen=True, slots=True)
class _Reader:
    """One ``--mount``. The last value of a repeated option wins, as in BuildKit."""

    scope: StageScope
    run: Run
    raw: RunMount

    def mount(self, origins: Mapping[str, Origin], sockets: int) -> Mount:
        kind = self._kind()
        takes = options_of(kind)
        for option in self.raw.options:
            if option.name not in ("type", *takes):
                hint = f"Use one of {', '.join(takes)}."
                raise self._error(f'unexpected option "{option.name}" for mount type "{kind}"', option, hint)
        self._check_access(kind)
        match kind:
            case "bind":
                origin = origins.get(self.raw.from_, ContextOrigin())
                return BindMount(self._target(), origin, self._source(), self._is_writable(False))
            case "cache":
                return self._cache(origins)
            case "tmpfs":
                return TmpfsMount(self._target(), self._size())
            case "secret":
                return self._secret()
            case _:
                target = self._target() if self._text("target") else f"/run/buildkit/ssh_agent.{sockets}"
                id_ = self._text("id") or DEFAULT_SSH_ID
                return SshMount(id_, target, self._is_required(), *self._owner(0o600))

    def _kind(self) -> str:
        kind = self._given("type", "bind").lower()
        if kind not in TYPES:
            hint = did_you_mean(kind, TYPES, f"Use one of {', '.join(TYPES)}.")
            raise self._error(f'unsupported mount type "{kind}"', self._option("type"), hint)
        return kind

    def _check_access(self, kind: str) -> None:
        """Types with a fixed access mode accept only the option that names it."""
        if kind in ("bind", "cache"):
            return
        for option in self.raw.options:
            if option.name in _ACCESS and not self._boolean(option):
                hint = f"Remove it: mounts of type {kind} are always {option.name}."
                raise self._error(f'option "{option.written}" is not supported for mount type "{kind}"', option, hint)

    def _cache(self, origins: Mapping[str, Origin]) -> CacheMount:
        target, source = self._target(), self._source()
        sharing = self._given("sharing", CacheSharing.SHARED).lower()
        if sharing not in set(CacheSharing):
            hint = did_you_mean(sharing, CacheSharing, f"Use one of {', '.join(CacheSharing)}.")
            raise self._error(f'invalid mount option sharing="{sharing}"', self._option("sharing"), hint)
        origin = origins.get(self.raw.from_)
        if origin is None and source != "/":
            hint = "Add from=, the stage or image that has the source directory."
            raise self._error('option "source" of a cache mount requires "from"', self._option("source"), hint)
        owner: Sequence[int | None] = self._owner(0o755)
        if origin is not None:
            owner = [value if self._option(name) else None for name, value in zip(_OWNED, owner, strict=True)]
        id_ = self._text("id") or paths.normal(self._text("target"))
        return CacheMount(target, id_, CacheSharing(sharing), origin, source, self._is_writable(True), *owner)

    def _secret(self) -> SecretMount:
        id_, source, target = self._text("id"), self._text("source"), self._text("target")
        if id_ and source:
            message = 'a secret mount cannot have both "id" and "source"'
            raise self._error(message, self._option("source"), "Use id=NAME.")
        id_ = id_ or source or posixpath.basename(target)
        if not id_:
            raise self._error("secret mount has no id", None, "Use --mount=type=secret,id=NAME.")
        env = self._text("env")
        option = self._option("env")
        if option is not None and (not env or not {"=", "\0"}.isdisjoint(env)):
            message = f'invalid mount option env="{env}": not a variable name'
            raise self._error(message, option, "Use, for example, env=NPM_TOKEN.")
        if target:
            target = self._target()
        elif not env:
            target = f"/run/secrets/{posixpath.basename(id_)}"
        return SecretMount(id_, target, env, self._is_required(), *self._owner(0o400))

    # --- options

    def _option(self, name: str) -> MountOption | None:
        return next((option for option in reversed(self.raw.options) if option.name == name), None)

    def _text(self, name: str) -> str:
        option = self._option(name)
        return self.scope.expand(self.run, option.value or "") if option is not None else ""

    def _given(self, name: str, default: str) -> str:
        """The option's value, which must not be empty; ``default`` without the option."""
        option = self._option(name)
        if option is None:
            return default
        text = self._text(name)
        if not text:
            hint = f"Set a value for {name}, or remove it."
            raise self._error(f'mount option "{name}" is empty', option, hint)
        return text

    def _target(self) -> str:
        """Absolute. A relative target is below WORKDIR, and a missing one is WORKDIR itself, as in BuildKit."""
        option = self._option("target")
        text = self._text("target")
        target = paths.resolve(self.scope.image.workdir, text)
        if target == "/" and not text:
            raise self._error("mount has no target", option, f"Use --mount={self.raw.written},target=/path.")
        if target == "/":
            raise self._error('invalid mount target "/"', option, "Use a path below /.")
        return target

    def _source(self) -> str:
        return paths.resolve("/", self._text("source"))

    def _is_writable(self, default: bool) -> bool:
        writable = default
        for option in self.raw.options:
            if option.name in _ACCESS:
                writable = self._boolean(option) == (option.name == "readwrite")
        return writable

    def _is_required(self) -> bool:
        option = self._option("required")
        return option is not None and self._boolean(option)

    def _boolean(self, option: MountOption) -> bool:
        if option.value is None:
            return True
        value = parse_bool(self.scope.expand(self.run, option.value).lower())
        if value is None:
            hint = f"Use {option.name} alone, or {option.name}=false."
            message = f'invalid mount option {option.name}="{option.value}": must be true or false'
            raise self._error(message, option, hint)
        return value

    def _size(self) -> int:
        text = self._given("size", "0")
        match = _SIZE.fullmatch(text)
        size = int(Decimal(match[1]) * _UNITS[match[2].lower()]) if match else -1
        if not 0 <= size <= _MAX_SIZE_BYTES:
            hint = "Use, for example, size=64m."
            raise self._error(f'invalid mount option size="{text}"', self._option("size"), hint)
        return size

    def _owner(self, mode: int) -> tuple[int, int, int]:
        """Mode, user and group."""
        return (
            self._number("mode", mode, 8, 0o7777),
            self._number("uid", 0, 10, _MAX_ID),
            self._number("gid", 0, 10, _MAX_ID),
        )

    def _number(self, name: str, default: int, base: int, most: int) -> int:
        text = self._given(name, f"{default:{_FORMATS[base]}}")
        value = int(text, base) if re.fullmatch(r"[0-7]+" if base == 8 else r"[0-9]+", text) else -1
        if not 0 <= value <= most:
            hint = f"Use, for example, {'mode=0640' if name == 'mode' else f'{name}=1000'}."
            raise self._error(
                f'invalid mount option {name}="{text}": not a number from 0 to {most:{_FORMATS[base]}}',
                self._option(name),
                hint,
            )
        return value

    def _error(self, message: str, option: MountOption | None, hint: str) -> DockerfileError:
        return self.scope.error(self.run, message, option.written if option is not None else "--mount", hint)
