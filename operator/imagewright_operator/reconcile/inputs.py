"""What a build is made from, as two hashes, and the names that follow from them.

No I/O. Called by ``reconcile`` and ``manifests``. The hashes carry a version and leave out every field that equals its
default: a field that a later release adds doesn't rebuild the world.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from imagewright_operator.api import ImageBuild, Spec
from imagewright_operator.api.status import Build

_VERSION = "1"
# Fields that the image's content follows from, and within them those it doesn't.
_INPUTS = ("source", "contextDir", "dockerfile", "target", "buildArgs", "secrets", "ssh", "output", "platforms")
_NOT_CONTENT = {"pushSecretRef", "secretRef", "insecure", "caBundleRef", "pathStyle", "poll"}
# Fields that decide whether a build works: editing one of them starts a build again, if the last one failed.
_ENVIRONMENT = (*_INPUTS, "registries", "timeout", "startTimeout", "sandbox", "podTemplate", "cache")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What would be built now."""

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
        """Whether that build was made from these inputs."""
        return (self.inputs_hash, self.requested_at) == (build.inputs_hash, build.requested_at)


def build_id(uid: str, inputs: Inputs, number: int) -> str:
    """Eight hexadecimal digits, the same for every operator that has read the same claim.

    The ImageBuild's UID is in it: one that was deleted and created again doesn't meet the Pods of the old one.
    """
    return _digest(json.dumps([uid, inputs.inputs_hash, inputs.requested_at, number]))[:8]


def _chosen(spec: Spec, fields: tuple[str, ...], leave_out: set[str]) -> dict[str, Any]:
    dumped = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    chosen = {name: _pruned(dumped[name], leave_out) for name in fields if name in dumped}
    return {name: value for name, value in chosen.items() if value not in ({}, [], None)}


def _pruned(value: Any, leave_out: set[str]) -> Any:
    """Without the fields that are not content. Labels and the like are the user's own keys and stay."""
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
