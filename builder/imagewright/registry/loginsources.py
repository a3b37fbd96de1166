"""Where logins come from beside config.json: kaniko's --credential-helpers.

Asks ``registry.clouds``. Called by ``registry.credentials``, for hosts that config.json has no login for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from imagewright.registry import clouds
from imagewright.registry.login import Login

_Ask = Callable[[str, Mapping[str, str]], Login | None]
# In kaniko's order, and with the extra that brings what each needs.
_SOURCES: Mapping[str, tuple[_Ask, str]] = {
    "env": (clouds.from_variables, ""),
    "google": (clouds.from_google, "gcr"),
    "ecr": (clouds.from_amazon, "ecr"),
    "acr": (clouds.from_azure, "acr"),
    "gitlab": (clouds.from_gitlab, ""),
}
NAMES = tuple(_SOURCES)


class LoginSources:
    """Asks each of ``names`` (None: all) once a host. What goes wrong is kept for the error of who is refused."""

    def __init__(self, environment: Mapping[str, str], names: tuple[str, ...] | None = None) -> None:
        self.environment = environment
        self._names = NAMES if names is None else names
        self._found: dict[str, Login | None] = {}
        self._troubles: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def find(self, host: str) -> Login | None:
        """The first login that a source has for a host."""
        with self._lock:
            if host not in self._found:
                self._found[host] = self._ask(host)
            return self._found[host]

    def troubles(self, host: str) -> tuple[str, ...]:
        """Why a source that should know the host gave no login: sentences for a hint."""
        return tuple(self._troubles.get(host, ()))

    def _ask(self, host: str) -> Login | None:
        for name in self._names:
            ask, extra = _SOURCES[name]
            try:
                login = ask(host, self.environment)
            except ImportError:
                self._note(host, f"Its logins need a package: pip install '.[{extra}]' in a checkout of imagewright.")
            except Exception as error:  # noqa: BLE001 -- each SDK has errors of its own; the registry is still asked without
                self._note(host, f"(no login from {name}: {_line(error)})")
            else:
                if login is not None:
                    return login
        return None

    def _note(self, host: str, text: str) -> None:
        self._troubles.setdefault(host, []).append(text)


def _line(error: Exception) -> str:
    """The first line of an SDK's error. None of them shows a secret; what isn't text is left out."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return "".join(c if c.isprintable() else " " for c in text)[:300]
