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
ENGINES_PATHS = (
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
# Where programs, libraries, settings of the system and of root, and tokens of clouds are searched.
SYSTEM_PATHS = (
    "/bin",
    "/boot",
    "/busybox",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/root",
    "/run/secrets",
    "/sbin",
    "/usr",
    "/var/run/secrets",
)
RESERVED_MOUNT_PATHS = (*ENGINES_PATHS, *SYSTEM_PATHS)
_SLASH = "/+([.]/+)*"  # what a path may have in place of a slash
_ABOVE = ("/run", "/var", "/var/run")


def _written(paths: tuple[str, ...]) -> str:
    return "|".join(_SLASH.join(part.replace(".", "[.]") for part in path[1:].split("/")) for path in paths)


# The definition's rules: of what a mount would change or hide, and of paths that a rule can't compare.
RULE = (
    f"!self.matches('^{_SLASH}({_written(RESERVED_MOUNT_PATHS)})(/|$)|^{_SLASH}({_written(_ABOVE)})(/[./]*)?$') && "
    "!self.matches('^[./]*$|(^|/)[.][.](/|$)')"
)


def mount_path_problem(mount_path: str) -> str:
    """Why a build can't have a volume mounted at this path, "" where it can.

    A mount inside a reserved path changes it, and one above it hides it: both conflict.
    """
    return _conflict(mount_path, RESERVED_MOUNT_PATHS)


def is_at_engines_path(mount_path: str) -> bool:
    """Whether a mount at this path changes what the engine is: a part of its Pod's fingerprint."""
    return bool(_conflict(mount_path, ENGINES_PATHS))


def _conflict(mount_path: str, paths: tuple[str, ...]) -> str:
    path = "/" + posixpath.normpath(mount_path).lstrip("/")  # POSIX keeps two slashes at the start
    if ".." in mount_path.split("/") or path == "/":
        return 'must be an absolute path other than "/", without ".."'
    for reserved in paths:
        if path == reserved or path.startswith(reserved + "/"):
            return f'"{reserved}" is reserved for the executor: use a path such as /data or /mnt/NAME'
        if reserved.startswith(path + "/"):
            return (
                f'it would hide "{reserved}", which is reserved for the executor: use a path such as /data or /mnt/NAME'
            )
    return ""
