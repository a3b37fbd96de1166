"""Which volumes ``spec.podTemplate`` may have, and where they may be mounted.

No I/O. One rule for the operator's validation and for `kubectl imagewright create --from`, so that the plugin never
writes a spec that the operator refuses.
"""

from __future__ import annotations

import posixpath

VOLUME_TYPES = ("emptyDir", "configMap", "secret", "projected", "persistentVolumeClaim")
PROJECTED_SOURCES = ("configMap", "secret", "downwardAPI")
RESERVED_VOLUME_PREFIX = "imagewright"
# The executor's own directories, and what the kubelet and the kernel mount.
RESERVED_MOUNT_PATHS = (
    "/kaniko",
    "/imagewright",
    "/proc",
    "/sys",
    "/dev",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/hostname",
    "/var/run/secrets/kubernetes.io",
    "/run/secrets/kubernetes.io",
)


def mount_path_problem(mount_path: str) -> str:
    """Why no volume can be mounted at this path, "" where one can.

    A mount inside a reserved path changes it, and one above it hides it: both conflict.
    """
    path = "/" + posixpath.normpath(mount_path).lstrip("/")  # POSIX keeps two slashes at the start
    if ".." in mount_path.split("/") or path == "/":
        return 'must be an absolute path other than "/", without ".."'
    for reserved in RESERVED_MOUNT_PATHS:
        if path == reserved or path.startswith(reserved + "/"):
            return f'"{reserved}" is reserved for the executor'
        if reserved.startswith(path + "/"):
            return f'it would hide "{reserved}", which is reserved for the executor'
    return ""
