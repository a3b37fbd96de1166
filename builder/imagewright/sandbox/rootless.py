"""Rootless builds: makes an ordinary user root of a new user namespace.

Executes this program again, inside the namespace, if that is allowed. To be called before the first thread is started.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import subprocess
import sys

from imagewright.errors import SandboxError
from imagewright.programs import find_program
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.processes.child import FAILED, Parent, spawn

_UNSHARED = b"unshared"
_NOT_ALLOWED = (
    "Run as root, or allow user namespaces: in a Pod by a Localhost seccomp profile such as deploy/seccomp/imagewright.json, "
    "on a machine by sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu) or kernel.unprivileged_userns_clone=1 "
    "(old Debian)."
)
_NO_MORE = "Run as root, or allow more user namespaces: sysctl user.max_user_namespaces."
_PATIENCE_S = 60.0  # newuidmap may look up the user in name services


def enter_user_namespace_if_needed() -> SandboxError | None:
    """Return None at once for root; otherwise execute this program again as root of a new user namespace.

    Where user namespaces are not allowed, return why. The caller goes on as the ordinary user, who can build what needs
    no RUN. The namespace maps the user's own ids and the ranges of /etc/subuid and /etc/subgid, if newuidmap and
    newgidmap are installed; else only the user's own.

    Raises:
        SandboxError: no ids can be mapped into the namespace.
    """
    if os.geteuid() == 0:
        return None
    uid, gid, pid = os.geteuid(), os.getegid(), os.getpid()
    mapper = spawn(lambda parent: _map_when_told(parent, pid, uid, gid))
    try:
        linux.unshare(linux.CLONE_NEWUSER)
    except OSError as error:
        mapper.kill()  # nothing to map
        mapper.wait()
        return SandboxError(
            f"cannot create a user namespace: {os.strerror(error.errno or 0)}",
            hint=_NO_MORE if error.errno == errno.EUSERS else _NOT_ALLOWED,
        )
    with contextlib.suppress(ConnectionError):  # it was killed: its exit code says so
        mapper.send(_UNSHARED)
    if mapper.wait() != 0:
        try:
            _map_own_ids(uid, gid)
        except OSError as error:
            raise SandboxError(
                f"cannot map user and group ids into the new user namespace: {error.strerror}",
                hint="Check the ranges in /etc/subuid and /etc/subgid (see newuidmap(1)), or run as root. On Ubuntu "
                "user namespaces must be allowed: sysctl kernel.apparmor_restrict_unprivileged_userns=0.",
            ) from error
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _map_when_told(parent: Parent, pid: int, uid: int, gid: int) -> int:
    return 0 if parent.receive() is not None and _map(pid, uid, gid) else FAILED


def _map_own_ids(uid: int, gid: int) -> None:
    """Map only this process's own id, which needs no helper programs once setgroups is denied."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _map(pid: int, uid: int, gid: int) -> bool:
    """Map the user's ranges into the namespace of ``pid``; False if that is not possible."""
    done = []
    for tool, file, own in (("newuidmap", "/etc/subuid", uid), ("newgidmap", "/etc/subgid", gid)):
        program = find_program(tool, os.environ.get("PATH"))
        ranges = _ranges(file, uid)
        if program is None or not ranges:
            return False
        words = ["0", str(own), "1"]
        inside = 1
        for first, count in ranges:
            words += [str(inside), str(first), str(count)]
            inside += count
        done.append([program, str(pid), *words])
    try:
        return all(
            subprocess.run(command, check=False, capture_output=True, timeout=_PATIENCE_S).returncode == 0
            for command in done
        )
    except subprocess.TimeoutExpired:
        return False


def _ranges(path: str, uid: int) -> list[tuple[int, int]]:
    try:
        name = pwd.getpwuid(uid).pw_name  # not LOGNAME, which is not reliable
    except KeyError:
        name = ""
    found = []
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                owner, _, rest = line.strip().partition(":")
                first, _, count = rest.partition(":")
                if owner in (name, str(uid)) and first.isdigit() and count.isdigit():
                    found.append((int(first), int(count)))
    except OSError:
        return []
    return found
