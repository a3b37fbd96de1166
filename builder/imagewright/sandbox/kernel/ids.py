"""The user and group ids that exist here: a container with a user namespace of its own has 65,536, a user alone one.

Reads /proc/self, and writes the maps of a process that has made a user namespace.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Self

from imagewright.errors import Reason, SandboxError
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.model import RunCommand


@dataclass(frozen=True, slots=True)
class IdMap:
    """Ranges of ids as (first, count), in this namespace's numbers."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """From /proc/PID/uid_map or gid_map (user_namespaces(7)): lines of inside, outside, count."""
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
        """The map of a namespace below this one in which every id is the same as here."""
        return "".join(f"{first} {first} {count}\n" for first, count in self.ranges)


@dataclass(frozen=True, slots=True)
class Ids:
    """What a command may be run as. ``groups_allowed``: setgroups(2) isn't denied."""

    users: IdMap
    groups: IdMap
    groups_allowed: bool

    @classmethod
    def read(cls) -> Self:
        with open("/proc/self/setgroups", encoding="ascii") as file:
            return cls(IdMap.read("uid_map"), IdMap.read("gid_map"), file.read().strip() == "allow")

    def check(self, command: RunCommand) -> RunCommand:
        """The command as it can be run. Where groups can't be set, no file belongs to them either: it goes without.

        Raises:
            SandboxError: IdOutOfRange, naming the id.
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


# What the kernel asks of whoever maps more than their own id, and root (user_namespaces(7)).
_TO_MAP = {linux.SETUID: "SETUID", linux.SETGID: "SETGID", linux.SETFCAP: "SETFCAP"}


def map_ids(pid: int) -> None:
    """Give the new user namespace of a child process every id that there is here, by the same number.

    Raises:
        SandboxError: the kernel doesn't allow it, and which capabilities are missing for it.
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
            else "Build in the executor image with --sandbox=root, or check whether a security module forbids the mapping.",
        ) from error


def _write(pid: int, name: str, text: str) -> None:
    with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
        file.write(text)
