"""The key with which the operator signs its Pods: of a Secret that it creates at its first start, or of a mounted file.

I/O: requests to the API server, by a client of its own; reads the file. The API server lets one of several operators
create the Secret; the others read what that one has written, as does each operator that starts later.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

import urllib3
from kubernetes import client

from imagewright.errors import UsageError
from imagewright_operator.api.base import Json
from imagewright_operator.kubeapi.client import Client
from imagewright_operator.kubeapi.config import CONTROLLER
from imagewright_operator.kubeapi.errors import CONFLICT, ApiError
from imagewright_operator.kubeapi.paths import core
from imagewright_operator.pods.signature import MIN_KEY_BYTES, Signer

_DATA_KEY = "key"
_TIMEOUT = urllib3.Timeout(connect=5.0, read=30.0)


class SigningKey:
    """Loads the key when it is first needed: a standby asks the API server for its lease only. Thread-safe."""

    def __init__(self, load: Callable[[], bytes]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._signer: Signer | None = None

    def signer(self) -> Signer:
        """The signer; loads the key.

        Raises:
            ApiError: the key cannot be read or created; the caller's pass is retried.
        """
        with self._lock:
            if self._signer is None:
                self._signer = Signer(self._load())
            return self._signer


class KeySecret:
    """The Secret with this ``namespace`` and ``name``; ``count`` and ``before`` are the client's."""

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        name: str,
        count: Callable[[str, str, int], None] = lambda *_: None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = Client(api, CONTROLLER, _TIMEOUT, count, before)
        self._namespace, self._name = namespace, name

    def read(self) -> bytes:
        """The key; a random one if there is no Secret yet, which is then created.

        Raises:
            ApiError: as the client; also if the Secret has no key of at least MIN_KEY_BYTES.
        """
        try:
            return self._key_of(self._find() or self._create())
        except ApiError as error:
            raise ApiError(
                error.status,
                f'cannot read or create Secret "{self._namespace}/{self._name}", whose key signs Pods: {error.message}',
                retry_after_s=error.retry_after_s,
            ) from error

    def _find(self) -> Json | None:
        return self._client.find(core("secrets", self._namespace, self._name))

    def _create(self) -> Json:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self._name,
                "namespace": self._namespace,
                "labels": {"app.kubernetes.io/name": "imagewright", "app.kubernetes.io/component": "operator"},
            },
            "immutable": True,
            "data": {_DATA_KEY: base64.b64encode(secrets.token_bytes(MIN_KEY_BYTES)).decode()},
        }
        try:
            return self._client.json("POST", core("secrets", self._namespace), {"fieldManager": CONTROLLER}, secret)
        except ApiError as error:
            there = self._find() if error.status == CONFLICT else None
            if there is None:
                raise
            return there

    @staticmethod
    def _key_of(secret: Json) -> bytes:
        try:
            key = base64.b64decode((secret.get("data") or {}).get(_DATA_KEY, ""), validate=True)
        except binascii.Error:
            key = b""
        if len(key) < MIN_KEY_BYTES:
            raise ApiError(
                0,
                f'it has no entry "{_DATA_KEY}" of at least {MIN_KEY_BYTES} bytes. Name another Secret in '
                "IMAGEWRIGHT_SIGNING_KEY_SECRET, or delete this one if nothing else uses it: the operator creates it",
            )
        return key


def key_of_file(path: str) -> bytes:
    """The content of a mounted file.

    Raises:
        UsageError: it cannot be read, or is too short.
    """
    hint = f"Mount a Secret with a file of at least {MIN_KEY_BYTES} random bytes there."
    try:
        key = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(
            f'cannot read IMAGEWRIGHT_SIGNING_KEY_FILE "{path}": {error.strerror or error}', hint=hint
        ) from error
    if len(key) < MIN_KEY_BYTES:
        raise UsageError(f'invalid IMAGEWRIGHT_SIGNING_KEY_FILE "{path}": it has {len(key)} bytes', hint=hint)
    return key
