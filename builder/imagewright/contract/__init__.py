"""The contract between operator and executor: ``request`` (what to build), ``sources`` (from what), ``result`` (what
came of it).

The operator writes a request into the executor Pod's environment and reads the result from the Pod's termination
message; the command line makes the same request from its flags. Here is what these modules share: times and limits;
``coding`` is their form in JSON. Their records are made by name. No I/O.
"""

from __future__ import annotations

from datetime import UTC, datetime

REQUEST_ENV = "IMAGEWRIGHT_REQUEST"
TERMINATION_MESSAGE_PATH = "/dev/termination-log"
RUNNER_DIR = "/kaniko/runner"  # in the executor Pod, shared by the engine's container and the runner's
RUNNER_SOCKET = f"{RUNNER_DIR}/socket"
MAX_REQUEST_BYTES = 96 * 1024  # Linux takes 128 KiB for one environment string; base64 is counted
MAX_TERMINATION_BYTES = 4096  # the kubelet's limit
MAX_CORE_BYTES = 2048  # of a result, so that at least half of the termination message remains for steps
MAX_SECRET_BYTES = 500 * 1024  # of one secret, as in BuildKit
DEFAULT_CACHE_TTL_S = 14 * 24 * 3600  # as kaniko's
COMPRESSION_LEVELS = {"gzip": range(10), "zstd": range(1, 23)}
DEFAULT_SSH_ID = "default"  # of RUN --mount=type=ssh without an id
RESULT_LOG_KEY = "imagewrightResult"  # the last line of an executor's log is {"imagewrightResult": {…}}


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as in results."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
