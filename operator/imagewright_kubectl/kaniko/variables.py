"""The container's environment: values, and where those come from that aren't written down; ``$(NAME)`` in arguments.

No I/O. Called by ``conversion``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imagewright_kubectl.kaniko.problems import Problems

Json = dict[str, Any]

_REFERENCE = re.compile(r"\$\$|\$\(([^()]*)\)|\{\{[^{}]*\}\}")  # the kubelet's, and Tekton's; Argo's


class Variables:
    """What ``env`` says. Remembers which are used in the arguments."""

    def __init__(self, container: Mapping[str, Any], problems: Problems) -> None:
        self.plain: dict[str, str] = {}
        self.references: dict[str, Json] = {}
        self.used: set[str] = set()
        self._problems = problems
        for one in container.get("env") or ():
            name = str(one.get("name"))
            if one.get("valueFrom"):
                self.references[name] = one["valueFrom"]
            else:
                self.plain[name] = self._known(str(one.get("value") or ""))[0]
        for one in container.get("envFrom") or ():
            source = (one.get("configMapRef") or one.get("secretRef") or {}).get("name", "")
            problems.add(
                "envFrom", f"envFrom: what {source} holds can't be seen from here: name the variables that count in env"
            )

    def expand(self, words: list[str]) -> list[str]:
        """Arguments as the kubelet hands them over, without those that can't be known and are dropped."""
        expanded, flag = [], ""
        for word in words:
            name = word.partition("=")[0] if word.startswith("-") else flag or word
            text, unknown = self._known(word)
            if unknown and name == word and self._problems.is_dropped(word):
                continue
            if unknown:
                self._unknown(name.lstrip("-"), unknown)
            expanded.append(text)
            flag = word if word.startswith("-") and "=" not in word else ""
        return expanded

    def _known(self, text: str) -> tuple[str, str]:
        """With the values that are written down in place of their names, and the last name that has none; it stays."""
        unknown = ""

        def one(found: re.Match[str]) -> str:
            nonlocal unknown
            if found[0] == "$$":
                return "$"
            if found[1] is None or found[1] not in self.plain:
                unknown = found[0]
                return found[0]
            self.used.add(found[1])
            return self.plain[found[1]]

        return _REFERENCE.sub(one, text), unknown

    def _unknown(self, name: str, written: str) -> None:
        variable = written[2:-1]
        if variable in self.references:
            self.used.add(variable)
            what = f"the value of {variable} is in a Secret or ConfigMap"
        else:
            what = f"{written} stands for something that the manifest doesn't say"
        self._problems.must(f"{name}: {what}: write its value, or give the field as a flag of create", name)
