"""User and group ids mapped in this user namespace: 65,536 in most containers, a single one for some users.

Reads /proc/self, and writes the id maps of a process that created a user namespace.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Self

from imagewright.errors import Reason, SandboxError
from imagewright.records import dataclass
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.model import RunCommand


@dataclass(frozen=True, slots=True)
class IdMap:
    """Ranges of ids as (first, count), as numbered in this namespace."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse /proc/PID/uid_map or gid_map (user_namespaces(7)): lines of inside, outside, count."""
        rows = [[int(word) for word in line.split()] for line in text.splitlines()]
        return cls(tuple((inside, count) for inside, _, count in rows))

    @classmethod
    def read(cls, name: str) -> Self:
        """``uid_map`` or ``gid_map`` of this process."""
        with open(f"/proc/self/{name}", encoding="ascii") as file:
            return cls.parse(file.read())

    def __contains__(self, number: int) -> bool:
        return any(first <= number < first + count for first, count in self.ranges)

    def __str__(self) -> str:
        return ", ".join(f"{first}-{first + count - 1}" if count > 1 else str(first) for first, count in self.ranges)

    def identity(self) -> str:
        """The map for a child namespace with the same ids as this one."""
        return "".join(f"{first} {first} {count}\n" for first, count in self.ranges)


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids that a command may run as. ``groups_allowed``: setgroups(2) is permitted."""

    users: IdMap
    groups: IdMap
    groups_allowed: bool

    @classmethod
    def read(cls) -> Self:
        with open("/proc/self/setgroups", encoding="ascii") as file:
            return cls(IdMap.read("uid_map"), IdMap.read("gid_map"), file.read().strip() == "allow")

    @property
    def ordinary_user(self) -> bool:
        """Whether root is an ordinary user, alone in its range, as ``rootless`` maps it.

        Container runtimes map it among others.
        """
        return self.users.ranges[:1] == ((0, 1),)

    def check(self, command: RunCommand) -> RunCommand:
        """The command as it can be run: without supplementary groups where they cannot be set, since no file can belong
        to them either.

        Raises:
            SandboxError: reason ``IdOutOfRange``, naming the id.
        """
        wanted = [("user", command.uid, self.users), ("group", command.gid, self.groups)]
        if self.groups_allowed:
            wanted += [("group", group, self.groups) for group in command.groups]
        for kind, number, there in wanted:
            if number not in there:
                raise SandboxError(
                    f"cannot run as {kind} {number}: only the {kind} ids {there} are mapped",
                    reason=Reason.ID_OUT_OF_RANGE,
                    hint="Use a mapped id in USER, or build where more ids are mapped: in a Pod without "
                    "`hostUsers: false`, or as a user with larger ranges in /etc/subuid and /etc/subgid.",
                )
        return command if self.groups_allowed else replace(command, groups=())


# Capabilities needed to map more than one's own id, and root (user_namespaces(7)).
_TO_MAP = {linux.SETUID: "SETUID", linux.SETGID: "SETGID", linux.SETFCAP: "SETFCAP"}


def map_ids(pid: int) -> None:
    """Map all ids of this namespace, under the same numbers, into the new user namespace of a child process.

    Raises:
        SandboxError: the kernel refuses; names the missing capabilities.
    """
    ids = Ids.read()
    if not ids.groups_allowed:
        with contextlib.suppress(OSError):
            _write(pid, "setgroups", "deny")
    try:
        _write(pid, "uid_map", ids.users.identity())
        _write(pid, "gid_map", ids.groups.identity())
    except OSError as error:
        held = linux.effective_capabilities()
        missing = ", ".join(name for number, name in _TO_MAP.items() if number not in held)
        why = f"{error.strerror} (missing capabilities: {missing})" if missing else error.strerror
        raise SandboxError(
            f"cannot map user and group ids into a new user namespace: {why}",
            hint=f"Add {missing} to the container's capabilities, or build in the executor image with --sandbox=root."
            if missing
            else "Build in the executor image with --sandbox=root, or check for a security module that forbids it.",
        ) from error


def _write(pid: int, name: str, text: str) -> None:
    with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
        file.write(text)
