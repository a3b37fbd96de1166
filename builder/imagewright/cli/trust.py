"""Whom a build trusts: SSL_CERT_FILE, and what a Pod mounts into SSL_CERT_DIR, as kaniko (Go) reads both.

Reads the folder, writes one bundle and names it in the environment. Called by ``cli.commands`` before anything connects:
OpenSSL wants hashed names in that folder, git's GnuTLS knows neither variable, and the clouds' SDKs have some of their own;
a bundle serves them all.
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
    """Write the bundle below ``folder`` and set SSL_CERT_FILE and GIT_SSL_CAINFO; no bundle where nothing is mounted.

    Raises:
        UsageError: for a file that can't be read, or a folder that can't be written.
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
            f"the mounted certificates can't be gathered in {folder}: {error.strerror}",
            hint="IMAGEWRIGHT_DIR names a folder that can be written.",
        ) from error
    environment["SSL_CERT_FILE"] = environment["GIT_SSL_CAINFO"] = path


def trust_in_sdks(environment: MutableMapping[str, str]) -> None:
    """What SSL_CERT_FILE names is trusted by the clouds' SDKs, too, unless their own variables name something else."""
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
            f"the certificate {path} can't be read: {error.strerror}",
            hint=f"{variable} leads there: check its value, and the file's mode.",
        ) from error
