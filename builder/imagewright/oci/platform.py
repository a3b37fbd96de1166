"""Platforms: ``os/architecture[/variant]``, normalised and matched as containerd does (image-index.md, "platform").

No I/O but ``host_platform``, which reads the machine's name.
"""

from __future__ import annotations

import platform as _platform
from typing import Any, Self

from imagewright.errors import UsageError, quoted
from imagewright.records import dataclass

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "arm64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "arm": ("arm", "v7"),
}
# Go's other names, each the normal form: what may stand without an operating system.
_OTHER_ARCHITECTURES = {name: (name, "") for name in ("386", "ppc64le", "riscv64", "s390x", "loong64", "mips64le")}
_SYSTEMS = frozenset({"linux", "windows", "darwin", "freebsd"})


@dataclass(frozen=True, slots=True)
class Platform:
    """A normalised platform. ``variant`` is empty where the architecture's default one is meant."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``linux/amd64``, ``linux/arm/v7`` or ``linux``-less ``arm64``.

        Raises:
            UsageError: when it has no such form.
        """
        parts = text.strip().lower().split("/")
        if len(parts) == 1 and parts[0] in _SYSTEMS:
            parts.append(host_platform().architecture)
        elif len(parts) == 1 and parts[0] in _ARCHITECTURES | _OTHER_ARCHITECTURES:
            parts.insert(0, "linux")
        if not 2 <= len(parts) <= 3 or not all(
            p.replace(".", "").replace("-", "").replace("_", "").isalnum() for p in parts
        ):
            raise UsageError(
                f"invalid platform {quoted(text, 100)}",
                hint="Write os/architecture[/variant], for example linux/arm64.",
            )
        return cls(*_normalise(*parts))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """From a descriptor's ``platform`` or an image configuration; missing keys count as empty."""
        os_, architecture, variant = _normalise(
            str(value.get("os", "")), str(value.get("architecture", "")), str(value.get("variant", ""))
        )
        return cls(os_, architecture, variant, str(value.get("os.version", "")))

    def to_json(self) -> dict[str, str]:
        value = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            value["os.version"] = self.os_version
        if self.variant:
            value["variant"] = self.variant
        return value

    def preference(self, offered: Platform) -> int:
        """How well ``offered`` serves a wish for this platform: 0 not at all, higher is better.

        An arm variant runs on every later one, so v7 takes v6 where there is no v7 (containerd's order).
        """
        if (self.os, self.architecture) != (offered.os, offered.architecture):
            return 0
        if self.variant == offered.variant:
            return 100
        wanted, has = _level(self), _level(offered)
        return max(0, 90 - (wanted - has)) if 0 < has <= wanted else 0

    def __str__(self) -> str:
        return "/".join(p for p in (self.os, self.architecture, self.variant) if p)


def host_platform() -> Platform:
    """The platform that this machine builds for when nothing else is asked."""
    return Platform(*_normalise("linux", _platform.machine().lower(), ""))


def _normalise(os_: str, architecture: str, variant: str = "") -> tuple[str, str, str]:
    name, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
    variant = variant or implied
    if variant and variant[0].isdecimal():
        variant = f"v{variant}"
    if (name, variant) in {("arm64", "v8"), ("amd64", "v1")}:
        variant = ""
    return os_, name, variant


def _level(platform: Platform) -> int:
    default = {"arm": 7, "arm64": 8, "amd64": 1}.get(platform.architecture, 0)
    digits = platform.variant.removeprefix("v").split(".")[0]
    return int(digits) if digits.isdecimal() else default
