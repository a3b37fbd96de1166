"""Builds the ``config`` object of an image (config.md, with Docker's additions) from that of its base.

No I/O.
"""

from __future__ import annotations

from typing import Any

from imagewright.oci.config import ImageConfig

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_SHELL = ("/bin/sh", "-c")
# Docker's order; other keys of the base follow, sorted.
_KEY_ORDER = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "ArgsEscaped",
    "Healthcheck",
    "OnBuild",
    "Shell",
)
_SORTED = ("ExposedPorts", "Volumes", "Labels")


class ConfigBuilder:
    """The configuration of the base, to be modified. Unknown keys are kept."""

    def __init__(self, base: ImageConfig) -> None:
        self._base = base
        self._config = base.config
        self.author = ""
        self._config.pop("OnBuild", None)  # triggers run once, in the next build
        self._places: dict[str, int] = {}  # of variables in Env
        for place, entry in enumerate(self._config.get("Env") or []):
            self._places.setdefault(entry.partition("=")[0], place)
        if "PATH" not in self._places:
            self.set_env("PATH", DEFAULT_PATH)

    @property
    def env(self) -> dict[str, str]:
        return dict(entry.partition("=")[::2] for entry in self._config.get("Env") or [])

    def set_env(self, key: str, value: str) -> None:
        """Replace a variable in place or append it: the order is kept."""
        entries = self._config["Env"] = self._config.get("Env") or []
        place = self._places.setdefault(key, len(entries))
        entries[place : place + 1] = [f"{key}={value}"]

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self._config.get("Shell") or _DEFAULT_SHELL)

    @property
    def workdir(self) -> str:
        return str(self._config.get("WorkingDir") or "")

    @property
    def user(self) -> str:
        return str(self._config.get("User") or "")

    def set(self, key: str, value: Any) -> None:
        """Set a key; an empty value removes it, as in Docker's own JSON."""
        if value:
            self._config[key] = value
        else:
            self._config.pop(key, None)

    def add(self, key: str, names: tuple[str, ...]) -> None:
        """Add names to a set (ExposedPorts, Volumes)."""
        known = self._config[key] = self._config.get(key) or {}
        known |= {name: {} for name in names}

    def add_label(self, key: str, value: str) -> None:
        labels = self._config["Labels"] = self._config.get("Labels") or {}
        labels[key] = value

    def add_trigger(self, trigger: str) -> None:
        self._config.setdefault("OnBuild", []).append(trigger)

    def finish(self) -> ImageConfig:
        """The whole configuration, keys in Docker's order and sets sorted: the same build gives the same bytes."""
        ordered = {key: self._config[key] for key in _KEY_ORDER if key in self._config}
        ordered |= {key: self._config[key] for key in sorted(self._config) if key not in ordered}
        for key in _SORTED:
            if ordered.get(key):
                ordered[key] = dict(sorted(ordered[key].items()))
        config = self._base.with_config(ordered)
        return config.with_author(self.author) if self.author else config
