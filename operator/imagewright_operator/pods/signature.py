"""The operator's signature on its Pods: annotations that nobody without its key can make.

No I/O. A Pod's name, labels and owner reference can be computed by anybody who may read the ImageBuild, so they don't
tell who has created it. The signature (HMAC-SHA-256, RFC 2104) covers the namespace, the ImageBuild's UID, the Pod's
name, which holds build, attempt and release and is given out once, the inputs hash and the fingerprint of what the Pod
runs. It doesn't keep anybody from copying a Pod whole: that is what the UID in the status is for.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imagewright_operator.api import GROUP
from imagewright_operator.api.base import Json
from imagewright_operator.pods.fingerprint import fingerprint
from imagewright_operator.pods.manifests import owner_uid
from imagewright_operator.pods.states import INPUTS_ANNOTATION

FINGERPRINT_ANNOTATION = f"{GROUP}/fingerprint"
SIGNATURE_ANNOTATION = f"{GROUP}/signature"
MIN_KEY_BYTES = 32
_VERSION = "v2"
# What reading a Pod that a stranger has made may raise.
_NO_POD_OF_OURS = (AttributeError, LookupError, TypeError, ValueError, RecursionError)


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs Pods and checks signatures with one key of at least MIN_KEY_BYTES."""

    key: bytes = field(repr=False)

    def signed(self, pod: Json, inputs_hash: str) -> Json:
        """The manifest with the annotations. ``inputs_hash`` is that of its build, "" if it builds nothing."""
        metadata = pod["metadata"]
        annotations = {
            **(metadata.get("annotations") or {}),
            INPUTS_ANNOTATION: inputs_hash,
            FINGERPRINT_ANNOTATION: fingerprint(pod),
        }
        annotations[SIGNATURE_ANNOTATION] = self._signature(pod, annotations)
        return {**pod, "metadata": {**metadata, "annotations": annotations}}

    def is_authentic(self, pod: Mapping[str, Any]) -> bool:
        """Whether the operator has given out this name for the ImageBuild that controls the Pod."""
        try:
            return self._is_authentic(pod)
        except _NO_POD_OF_OURS:
            return False

    def _is_authentic(self, pod: Mapping[str, Any]) -> bool:
        annotations = pod["metadata"].get("annotations") or {}
        expected = self._signature(pod, annotations)
        return hmac.compare_digest(expected.encode(), str(annotations.get(SIGNATURE_ANNOTATION, "")).encode())

    def is_unchanged(self, pod: Mapping[str, Any]) -> bool:
        """Whether it is authentic, and runs what the operator wanted it to run. A stranger's may be anything."""
        try:
            expected = pod["metadata"]["annotations"][FINGERPRINT_ANNOTATION]
            return self._is_authentic(pod) and bool(expected == fingerprint(pod))
        except _NO_POD_OF_OURS:
            return False

    def _signature(self, pod: Mapping[str, Any], annotations: Mapping[str, str]) -> str:
        metadata = pod["metadata"]
        signed = [metadata["namespace"], owner_uid(pod), metadata["name"]]
        signed += [annotations.get(INPUTS_ANNOTATION, ""), annotations.get(FINGERPRINT_ANNOTATION, "")]
        return f"{_VERSION}-{hmac.new(self.key, json.dumps(signed).encode(), hashlib.sha256).hexdigest()}"
