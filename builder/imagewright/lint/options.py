"""Which rules are applied: ``# check=skip=…;error=true;experimental=…``, or BUILDKIT_DOCKERFILE_CHECK in its place.

No I/O. Called by ``lint.run``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imagewright.dockerfile.model import DockerfileWarning
from imagewright.dockerfile.source import did_you_mean
from imagewright.errors import UsageError
from imagewright.lint.rules import BY_NAME
from imagewright.plan.gotext import parse_bool

BUILD_ARG = "BUILDKIT_DOCKERFILE_CHECK"
_KEYS = ("skip", "error", "experimental")


@dataclass(frozen=True, slots=True)
class LintOptions:
    """``skip`` and ``experimental`` are names of rules, or hold ``all``. ``error``: a warning fails the build.

    ``unknown`` are names that no rule has: of a later BuildKit perhaps, so a warning and no error.
    """

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(sorted((self.skip | self.experimental) - {"all", *BY_NAME}))

    @classmethod
    def parse(cls, text: str, what: str) -> LintOptions:
        """Read the value of the directive or the build argument. ``what`` is how errors call it.

        Raises:
            UsageError: an option that isn't known, a value that is none.
        """
        values: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in text.split(";"))):
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if key not in _KEYS or not equals:
                hint = did_you_mean(key, _KEYS, "Write skip=RULE,RULE;error=true.")
                raise UsageError(f"{what}: {part!r} is none of {', '.join(f'{k}=…' for k in _KEYS)}", hint=hint)
            values[key] = value
        given = values.get("error", "false").lower()
        error = parse_bool(given)
        if error is None:
            raise UsageError(f"{what}: error={given} is neither true nor false", hint="Write error=true.")
        return cls(_names(values.get("skip", "")), _names(values.get("experimental", "")), error)

    def shown(self, warnings: Iterable[DockerfileWarning]) -> tuple[DockerfileWarning, ...]:
        """Those whose rule is applied, in the file's order."""
        applied = dict.fromkeys(warning for warning in warnings if self._applies(warning.rule))
        return tuple(sorted(applied, key=lambda w: (w.location.line, w.location.column, w.rule)))

    def _applies(self, name: str) -> bool:
        if BY_NAME[name].experimental:
            return not self.experimental.isdisjoint({"all", name})
        return self.skip.isdisjoint({"all", name})


def _names(text: str) -> frozenset[str]:
    return frozenset(filter(None, (name.strip() for name in text.split(","))))
