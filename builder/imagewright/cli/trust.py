"""The CAs that a build trusts: SSL_CERT_FILE, and what a Pod mounts in SSL_CERT_DIR, as kaniko (Go) reads both.

Reads the directory, writes one bundle and names it in the environment: OpenSSL expects hashed names in that directory,
git's GnuTLS knows neither variable, and the clouds' SDKs have their own; a bundle works for all of them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import MutableMapping

from imagewright.errors import UsageError

_MAX_BYTES = 16 * 1024 * 1024
_MARK = b"-----BEGIN CERTIFICATE-----"
_OF_SDKS = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")  # Amazon's; Google's and Azure's


def trust_mounted_certificates(environment: MutableMapping[str, str], folder: str) -> None:
    """Write the bundle below ``folder`` and set SSL_CERT_FILE and GIT_SSL_CAINFO; nothing if nothing is mounted.

    Raises:
        UsageError: an unreadable file, an unwritable directory.
    """
    mounted = environment.get("SSL_CERT_DIR", "")
    parts = []
    for directory in filter(None, mounted.split(":")):
        if os.path.isdir(directory):
            names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
            parts += [_read(os.path.join(directory, name), "SSL_CERT_DIR") for name in names]
    parts = [part for part in parts if _MARK in part]
    system = environment.get("SSL_CERT_FILE", "")
    if not parts or not system:
        return
    bundle = b"\n".join([_read(system, "SSL_CERT_FILE"), *parts])
    try:
        os.makedirs(folder, exist_ok=True)
        fd, path = tempfile.mkstemp(prefix="trusted-", suffix=".crt", dir=folder)
        with os.fdopen(fd, "wb") as file:
            file.write(bundle)
    except OSError as error:
        raise UsageError(
            f"cannot write the bundle of mounted certificates to {folder}: {error.strerror}",
            hint="Set IMAGEWRIGHT_DIR to a writable directory.",
        ) from error
    environment["SSL_CERT_FILE"] = environment["GIT_SSL_CAINFO"] = path


def trust_in_sdks(environment: MutableMapping[str, str]) -> None:
    """Have the clouds' SDKs trust SSL_CERT_FILE too, unless their own variables are set."""
    bundle = environment.get("SSL_CERT_FILE", "")
    for name in _OF_SDKS:
        if bundle and not environment.get(name):
            environment[name] = bundle


def _read(path: str, variable: str) -> bytes:
    if os.path.isdir(path):
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise UsageError(
            f"cannot read the certificate {path}: {error.strerror}",
            hint=f"Check the value of {variable} and the mode of the file.",
        ) from error
