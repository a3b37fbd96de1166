"""A bound on the processes and threads of a command, for Pods that the kubelet gives none (podPidsLimit).

Reads /proc/self and sets a limit of the calling process (RLIMIT_NPROC, getrlimit(2)). The kernel counts a user's
processes in each user namespace apart, and those of a nested one in the outer one, too. So in a user namespace of the
container's own the count is that of the Pod, whatever other Pods run. Among the machine's own ids it would be that of
the whole machine, and root is not bound: there nothing is set.
"""

from __future__ import annotations

import resource
from pathlib import Path

# More than honest builds have, and half of what a kernel has by default where few processors are.
MOST = 16_384
_WHOLE_MACHINE = [b"0", b"0", b"4294967295"]


def bound_processes(most: int = MOST, id_map: Path = Path("/proc/self/uid_map")) -> None:
    """Bound this process and those that it starts. Without CAP_SYS_RESOURCE on the machine none can undo it."""
    if id_map.read_bytes().split() == _WHOLE_MACHINE:
        return
    soft, hard = (most if limit == resource.RLIM_INFINITY else min(limit, most) for limit in _present())
    resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))


def _present() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_NPROC)
