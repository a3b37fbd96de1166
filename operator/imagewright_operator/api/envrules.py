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
# Where the clouds' SDKs ask for credentials, what they tell there, and where they send requests with them. A cluster's
# webhooks set some of them, so they don't make a Pod another one.
REDIRECTING = (
    "^(AWS_CONTAINER_|AWS_CSM_|AWS_EC2_METADATA_|AWS_ENDPOINT_|AWS_IMDS_|AZURE_KUBERNETES_|BOTO_|CLOUDSDK_|"
    "GCE_METADATA_|GOOGLE_API_|GOOGLE_EXTERNAL_ACCOUNT_|IDENTITY_|MSAL_|MSI_)|"
    "^(API_ENDPOINT_OVERRIDE|API_VERSION_OVERRIDE|AWS_CREDENTIAL_FILE|AWS_DATA_PATH|AWS_LOGIN_CACHE_DIRECTORY|"
    "AWS_WEB_IDENTITY_TOKEN_FILE|AZURE_AUTHORITY_HOST|AZURE_FEDERATED_TOKEN_FILE|AZURE_POD_IDENTITY_AUTHORITY_HOST|"
    "AZURE_REGIONAL_AUTHORITY_NAME|AZURE_SDK_CLOUD_CONF|IMDS_ENDPOINT|SYSTEM_OIDCREQUESTURI)$"
)
ENGINES_OWN = "^GIT_(TOKEN|USERNAME|PASSWORD|PULL_METHOD)$"


def is_reserved(name: str) -> bool:
    """Whether only the operator sets this variable: it decides what the engine runs and trusts."""
    return re.search(RESERVED, name) is not None and re.search(ENGINES_OWN, name) is None


def is_refused(name: str) -> bool:
    """Whether a build may not set this variable, whatever the settings allow."""
    return is_reserved(name) or re.search(REDIRECTING, name) is not None


RULE = f"self.matches('{ENGINES_OWN}') || !(self.matches('{RESERVED}') || self.matches('{REDIRECTING}'))"
