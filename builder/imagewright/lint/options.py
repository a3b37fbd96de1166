"""Selects the rules that apply: ``# check=skip=…;error=true;experimental=…``, or BUILDKIT_DOCKERFILE_CHECK instead.

No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable

from imagewright.dockerfile.model import DockerfileWarning
from imagewright.dockerfile.source import did_you_mean
from imagewright.errors import UsageError
from imagewright.lint.rules import BY_NAME
from imagewright.plan.gotext import parse_bool
from imagewright.records import dataclass

BUILD_ARG = "BUILDKIT_DOCKERFILE_CHECK"
_KEYS = ("skip", "error", "experimental")


@dataclass(frozen=True, slots=True)
class LintOptions:
    """``skip`` and ``experimental`` are names of rules, or ``all``. ``error``: a warning fails the build.

    ``unknown`` are names that no rule has. A later BuildKit may have them, so they cause a warning, not an error.
    """

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(sorted((self.skip | self.experimental) - {"all", *BY_NAME}))

    @classmethod
    def parse(cls, text: str, what: str) -> LintOptions:
        """Parse the value of the directive or the build argument. ``what`` is its name in errors.

        Raises:
            UsageError: an unknown option or an invalid value.
        """
        values: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in text.split(";"))):
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if key not in _KEYS or not equals:
                hint = did_you_mean(key, _KEYS, "Use, for example, skip=RULE,RULE;error=true.")
                raise UsageError(f'unknown option "{part}" in {what}', hint=hint)
            values[key] = value
        given = values.get("error", "false").lower()
        error = parse_bool(given)
        if error is None:
            message = f'invalid error value "{given}" in {what}: must be true or false'
            raise UsageError(message, hint="Use error=true or error=false.")
        return cls(_names(values.get("skip", "")), _names(values.get("experimental", "")), error)

    def select(self, warnings: Iterable[DockerfileWarning]) -> tuple[DockerfileWarning, ...]:
        """The warnings whose rule applies, in the order of the file."""
        unique = dict.fromkeys(warning for warning in warnings if self._applies(warning.rule))
        return tuple(sorted(unique, key=lambda w: (w.location.line, w.location.column, w.rule)))

    def _applies(self, name: str) -> bool:
        if BY_NAME[name].experimental:
            return not self.experimental.isdisjoint({"all", name})
        return self.skip.isdisjoint({"all", name})


def _names(text: str) -> frozenset[str]:
    return frozenset(filter(None, (name.strip() for name in text.split(","))))
