"""Environment variables that nobody but the operator sets in an executor Pod.

No I/O. They would make the engine, or a program that it starts, load other code, read other files or trust other
servers; no setting allows them.
"""

from __future__ import annotations

import re

# Regular expressions (RE2 and Python's), which deploy/'s admission policy has too: variables of the dynamic linker, of
# Python, OpenSSL, git, the shell and the C library; but not those that the engine reads instead of git.
RESERVED = (
    "^(BASH_FUNC_|GIT_|IMAGEWRIGHT_|KANIKO_|LD_|MALLOC_|OPENSSL_|PYTHON|SSH_|XDG_)|"
    "^(AWS_CA_BUNDLE|AWS_CONFIG_FILE|AWS_SHARED_CREDENTIALS_FILE|BASH_ENV|CURL_CA_BUNDLE|DOCKER_CONFIG|ENV|GCONV_PATH|"
    "GETCONF_DIR|GLIBC_TUNABLES|HOME|HOSTALIASES|IFS|LOCALDOMAIN|LOCPATH|NIS_PATH|NLSPATH|PATH|REQUESTS_CA_BUNDLE|"
    "RESOLV_HOST_CONF|RES_OPTIONS|SHELLOPTS|SSLKEYLOGFILE|SSL_CERT_DIR|SSL_CERT_FILE|TMPDIR|TZDIR)$"
)
ENGINES_OWN = "^GIT_(TOKEN|USERNAME|PASSWORD|PULL_METHOD)$"


def is_reserved(name: str) -> bool:
    """Whether this variable is refused whatever the settings allow."""
    return re.search(RESERVED, name) is not None and re.search(ENGINES_OWN, name) is None
