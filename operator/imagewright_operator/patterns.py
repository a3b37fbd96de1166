"""Name patterns of the installation's allow-lists.

No I/O. In a pattern ``*`` stands for any characters, also for none; nothing else is special.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_SHOWN = 4  # patterns in a message, which must leave room for others
NONE = "none"  # instead of a pattern: nothing is allowed


@dataclass(frozen=True)
class AllowList:
    """The names that a setting allows. ``setting`` is its variable, for messages.

    The word ``none`` instead of a pattern allows nothing. With ``namespaced`` a pattern may be ``NAMESPACE/PATTERN``; a
    namespace that has such patterns has no others.
    """

    setting: str
    patterns: tuple[str, ...] = ()
    namespaced: bool = False

    def allows(self, name: str, namespace: str = "") -> bool:
        """Whether the name is allowed, in this namespace."""
        return any(pattern.fullmatch(name) for pattern in self._compiled.get(namespace, self._general))

    def refusal(self, namespace: str = "") -> str:
        """What the setting allows and who can change that, to follow "… is not allowed: "."""
        own = self._by_namespace.get(namespace, self._by_namespace[""])
        where = f" in namespace {namespace}" if self.namespaced and namespace in self._by_namespace else ""
        more = f" and {len(own) - _SHOWN} more" if len(own) > _SHOWN else ""
        shown = ", ".join(own[:_SHOWN]) or "none"
        return f"the operator's setting {self.setting} allows {shown}{more}{where}; ask the cluster's administrator"

    @cached_property
    def _by_namespace(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {"": []}
        for pattern in self.patterns:
            namespace, _, rest = pattern.rpartition("/") if self.namespaced else ("", "", pattern)
            found.setdefault(namespace, []).extend([rest] if rest != NONE else [])
        return found

    @cached_property
    def _compiled(self) -> dict[str, list[re.Pattern[str]]]:
        return {namespace: [_compiled(one) for one in patterns] for namespace, patterns in self._by_namespace.items()}

    @property
    def _general(self) -> list[re.Pattern[str]]:
        return self._compiled[""]


def _compiled(pattern: str) -> re.Pattern[str]:
    # Several stars in a row mean the same as one, and would make the search slow.
    return re.compile(".*".join(map(re.escape, re.sub(r"\*+", "*", pattern).split("*"))), re.DOTALL)
