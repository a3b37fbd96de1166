"""Environment variables that nobody but the operator sets in an executor Pod.

No I/O. They would make the engine, or a program that it starts, load other code, read other files or trust other
servers; no setting allows them.
"""

from __future__ import annotations

_NAMES = frozenset(
    {
        "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BASH_ENV", "CURL_CA_BUNDLE",
        "DOCKER_CONFIG", "ENV", "GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "HOME", "HOSTALIASES", "IFS",
        "LOCALDOMAIN", "LOCPATH", "NIS_PATH", "NLSPATH", "PATH", "REQUESTS_CA_BUNDLE", "RESOLV_HOST_CONF",
        "RES_OPTIONS", "SHELLOPTS", "SSLKEYLOGFILE", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZDIR",
    }
)  # fmt: skip
_PREFIXES = ("BASH_FUNC_", "GIT_", "IMAGEWRIGHT_", "KANIKO_", "LD_", "MALLOC_", "OPENSSL_", "PYTHON", "SSH_", "XDG_")
_GIT = frozenset({"GIT_TOKEN", "GIT_USERNAME", "GIT_PASSWORD", "GIT_PULL_METHOD"})  # of the engine, not of git


def is_reserved(name: str) -> bool:
    """Whether this variable is refused whatever the settings allow."""
    return name not in _GIT and (name in _NAMES or name.startswith(_PREFIXES))
