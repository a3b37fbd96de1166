"""The contract between operator and executor: what is asked (BuildRequest) and what came of it (BuildResult).

No I/O. The operator writes a request into the executor Pod's environment and reads the result from the Pod's
termination message; the command line makes the same request from its flags.
"""

from __future__ import annotations

from imagewright.contract.request import (
    BuildArg,
    BuildRequest,
    CacheSettings,
    RegistrySettings,
    SandboxKind,
    SecretSource,
    SshSource,
    Timestamps,
)
from imagewright.contract.result import (
    BuildResult,
    Failure,
    SourceResult,
    StepResult,
)
from imagewright.contract.sources import (
    AzureBlobSource,
    ConfigMapSource,
    ContextSource,
    DirectorySource,
    GcsSource,
    GitSource,
    HttpArchiveSource,
    HttpSource,
    ImageSource,
    InlineSource,
    LayoutSource,
    NamedContext,
    OciSource,
    S3Source,
    Source,
    TarSource,
)
from imagewright.contract.values import (
    COMPRESSION_LEVELS,
    DEFAULT_CACHE_TTL_S,
    DEFAULT_SSH_ID,
    MAX_CORE_BYTES,
    MAX_REQUEST_BYTES,
    MAX_SECRET_BYTES,
    MAX_TERMINATION_BYTES,
    REQUEST_ENV,
    RESULT_LOG_KEY,
    TERMINATION_MESSAGE_PATH,
    timestamp,
)

__all__ = [
    "COMPRESSION_LEVELS",
    "DEFAULT_CACHE_TTL_S",
    "DEFAULT_SSH_ID",
    "MAX_CORE_BYTES",
    "MAX_REQUEST_BYTES",
    "MAX_SECRET_BYTES",
    "MAX_TERMINATION_BYTES",
    "REQUEST_ENV",
    "RESULT_LOG_KEY",
    "TERMINATION_MESSAGE_PATH",
    "AzureBlobSource",
    "BuildArg",
    "BuildRequest",
    "BuildResult",
    "CacheSettings",
    "ConfigMapSource",
    "ContextSource",
    "DirectorySource",
    "Failure",
    "GcsSource",
    "GitSource",
    "HttpArchiveSource",
    "HttpSource",
    "ImageSource",
    "InlineSource",
    "LayoutSource",
    "NamedContext",
    "OciSource",
    "RegistrySettings",
    "S3Source",
    "SandboxKind",
    "SecretSource",
    "Source",
    "SourceResult",
    "SshSource",
    "StepResult",
    "TarSource",
    "Timestamps",
    "timestamp",
]
