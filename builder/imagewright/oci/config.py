"""The image configuration (config.md): what to run, the root file system's diff IDs, and the history.

No I/O. Keys this engine does not know are kept as they came, so that nothing of a base image is lost.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from imagewright.digest import Digest
from imagewright.oci.descriptor import document_error
from imagewright.oci.manifest import dump_document, load_document
from imagewright.oci.platform import Platform
from imagewright.records import dataclass

# The order in which keys are written; other keys of the base follow, sorted.
_KEY_ORDER = (
    "created",
    "author",
    "architecture",
    "variant",
    "os",
    "os.version",
    "config",
    "rootfs",
    "history",
)


# The shapes that the engine relies on: (what it is called, whether a value has it). Null counts as absent.
_Shape = tuple[str, Callable[[Any], bool]]
_TEXT: _Shape = ("a string", lambda value: isinstance(value, str))
_TEXTS: _Shape = (
    "a list of strings",
    lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
)
_OBJECT: _Shape = ("an object", lambda value: isinstance(value, dict))
_OBJECTS: _Shape = (
    "a list of objects",
    lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
)
_TEXT_BY_NAME: _Shape = (
    "an object of strings",
    lambda value: isinstance(value, dict) and all(isinstance(item, str) for item in value.values()),
)
_CONFIG_SHAPES: Mapping[str, _Shape] = {
    "User": _TEXT,
    "WorkingDir": _TEXT,
    "StopSignal": _TEXT,
    "Env": _TEXTS,
    "Cmd": _TEXTS,
    "Entrypoint": _TEXTS,
    "Shell": _TEXTS,
    "OnBuild": _TEXTS,
    "Labels": _TEXT_BY_NAME,
    "ExposedPorts": _OBJECT,
    "Volumes": _OBJECT,
    "Healthcheck": _OBJECT,
}


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of ``docker history``. ``empty_layer`` says that the instruction added no layer."""

    created_by: str
    created: str = ""
    comment: str = ""
    empty_layer: bool = False

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {}
        if self.created:
            value["created"] = self.created
        value["created_by"] = self.created_by
        if self.comment:
            value["comment"] = self.comment
        if self.empty_layer:
            value["empty_layer"] = True
        return value


class ImageConfig:
    """An immutable view of an image configuration. Methods named ``with_…`` return a changed copy."""

    __slots__ = ("_value",)

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value: dict[str, Any] = copy.deepcopy(dict(value))

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a configuration from a registry.

        Raises:
            ImagewrightError: reason ``RegistryProtocolError``.
        """
        value = load_document(raw)
        rootfs = value.get("rootfs")
        if not isinstance(rootfs, dict) or not isinstance(rootfs.get("diff_ids"), list):
            raise document_error("the image configuration has no rootfs.diff_ids")
        for diff_id in rootfs["diff_ids"]:
            Digest.parse(str(diff_id))
        config = value.get("config")
        if config is not None and not isinstance(config, dict):
            raise document_error("the image configuration's config is not an object")
        _check(value, {"os": _TEXT, "architecture": _TEXT, "variant": _TEXT, "history": _OBJECTS}, "")
        _check(config or {}, _CONFIG_SHAPES, "config.")
        return cls(value)

    @classmethod
    def scratch(cls, platform: Platform) -> Self:
        """The configuration of an empty image for ``platform``."""
        value: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
        if platform.variant:
            value["variant"] = platform.variant
        return cls(value | {"config": {}, "rootfs": {"type": "layers", "diff_ids": []}, "history": []})

    @property
    def platform(self) -> Platform:
        return Platform.from_json(self._value)

    @property
    def config(self) -> dict[str, Any]:
        """A copy of the ``config`` object (Env, Cmd, Entrypoint, …), empty where there is none."""
        return copy.deepcopy(self._value.get("config") or {})

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """Digests of the uncompressed layers, base first."""
        return tuple(Digest.parse(d) for d in self._value["rootfs"]["diff_ids"])

    @property
    def history(self) -> tuple[dict[str, Any], ...]:
        return tuple(copy.deepcopy(self._value.get("history") or []))

    @property
    def env(self) -> dict[str, str]:
        """The environment, in order. An entry without ``=`` counts as empty."""
        return dict(entry.partition("=")[::2] for entry in self.config.get("Env") or [])

    def to_json(self) -> dict[str, Any]:
        return copy.deepcopy(self._value)

    def with_config(self, config: Mapping[str, Any]) -> ImageConfig:
        """The same image with another ``config`` object."""
        return ImageConfig(self._value | {"config": dict(config)})

    def with_layers(
        self, diff_ids: Sequence[Digest], history: Sequence[HistoryEntry | Mapping[str, Any]]
    ) -> ImageConfig:
        """The same image with the whole root file system and history replaced; base first."""
        entries = [h.to_json() if isinstance(h, HistoryEntry) else dict(h) for h in history]
        rootfs = {"type": "layers", "diff_ids": [str(d) for d in diff_ids]}
        return ImageConfig(self._value | {"rootfs": rootfs, "history": entries})

    def with_created(self, created: str) -> ImageConfig:
        """The same image with its creation time (RFC 3339)."""
        return ImageConfig(self._value | {"created": created})

    def with_author(self, author: str) -> ImageConfig:
        return ImageConfig(self._value | {"author": author})

    def dump(self) -> bytes:
        """The bytes to store: known keys in the specification's order, then the rest sorted."""
        known = {k: self._value[k] for k in _KEY_ORDER if k in self._value}
        return dump_document(known | {k: self._value[k] for k in sorted(self._value) if k not in known})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageConfig) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self.dump())


def _check(value: Mapping[str, Any], shapes: Mapping[str, _Shape], prefix: str) -> None:
    for key, (name, fits) in shapes.items():
        if value.get(key) is not None and not fits(value[key]):
            raise document_error(f"the image configuration's {prefix}{key} is not {name}")
