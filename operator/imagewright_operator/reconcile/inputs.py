"""The inputs of a build, as two hashes, and the build ID that follows from them.

No I/O. The hashes have a version and omit every field that equals its default: a field that a later release adds starts
no builds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from imagewright_operator.api import ImageBuild, Spec
from imagewright_operator.api.status import Build

_VERSION = "1"
# Fields that determine the image's content, and the fields within them that do not.
_INPUTS = ("source", "contextDir", "dockerfile", "target", "buildArgs", "secrets", "ssh", "output", "platforms")
_NOT_CONTENT = {"pushSecretRef", "secretRef", "insecure", "caBundleRef", "pathStyle", "poll"}
# Fields that may decide whether a build succeeds: editing one of them retries a failed build.
_ENVIRONMENT = (
    *_INPUTS,
    "registries",
    "timeout",
    "startTimeout",
    "sandbox",
    "requireIsolation",
    "podTemplate",
    "cache",
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of the present spec."""

    inputs_hash: str
    environment_hash: str
    requested_at: str

    @classmethod
    def of(cls, imagebuild: ImageBuild) -> Inputs:
        return cls(
            inputs_hash=_hash(_chosen(imagebuild.spec, _INPUTS, leave_out=_NOT_CONTENT)),
            environment_hash=_hash(_chosen(imagebuild.spec, _ENVIRONMENT, leave_out=set())),
            requested_at=imagebuild.requested_at,
        )

    def is_of(self, build: Build) -> bool:
        """Whether the build has these inputs."""
        return (self.inputs_hash, self.requested_at) == (build.inputs_hash, build.requested_at)


def build_id(uid: str, inputs: Inputs, number: int) -> str:
    """Eight hexadecimal digits, the same for every operator that reads the same record.

    They depend on the ImageBuild's UID: one that was deleted and created again has no Pod names in common with the old
    one.
    """
    return _digest(json.dumps([uid, inputs.inputs_hash, inputs.requested_at, number]))[:8]


def _chosen(spec: Spec, fields: tuple[str, ...], leave_out: set[str]) -> dict[str, Any]:
    dumped = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    chosen = {name: _pruned(dumped[name], leave_out) for name in fields if name in dumped}
    return {name: value for name, value in chosen.items() if value not in ({}, [], None)}


def _pruned(value: Any, leave_out: set[str]) -> Any:
    """Without the fields that are not content. Keys of labels and annotations are the user's, and stay."""
    if isinstance(value, list):
        return [_pruned(item, leave_out) for item in value]
    if isinstance(value, dict):
        return {
            key: item if key in ("labels", "annotations") else _pruned(item, leave_out)
            for key, item in value.items()
            if key not in leave_out
        }
    return value


def _hash(fields: dict[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"v{_VERSION}-{_digest(canonical)[:40]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
