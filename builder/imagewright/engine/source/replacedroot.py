"""Programs of the engine's container in a build that replaces its ``/``: git, ssh and docker's credential helpers.

Once an image is unpacked there, a program's name, its loader, the libraries that /etc/ld.so.preload and
/etc/nsswitch.conf name, and the configuration of git, ssh and OpenSSL are the image's, which would be given the logins.
So everything that needs such a program is done before, and the helpers that remain need nothing of ``/``.

Reads programs; makes links to them in a directory of its own.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterable, Mapping

from imagewright.engine.source.remotes import Remotes
from imagewright.errors import ImagewrightError
from imagewright.fs.paths import is_at_or_below
from imagewright.fs.rootfs.mounts import mounts_below
from imagewright.plan.model import BuildPlan
from imagewright.plan.remote import GitRemote
from imagewright.plan.steps import CopyStep

_HELPER = "docker-credential-"
_PT_INTERP = 3
_ELF_64 = b"\x7fELF\x02\x01"  # little-endian
_HEADER_BYTES, _ENTRY_BYTES, _MOST_ENTRIES = 64, 56, 512


def fetch_all(plan: BuildPlan, remotes: Remotes) -> None:
    """Do everything for which a program is started: check out the repositories of ADD, start the ssh agents.

    Raises:
        ImagewrightError: with the location of the ADD that needs the repository.
    """
    for stage in plan.stages:
        for step in stage.steps:
            if isinstance(step, CopyStep):
                try:
                    for source in step.sources:
                        if isinstance(source, GitRemote):
                            remotes.rewording(step.text.substitutions.as_written).fetch_ahead(source)
                except ImagewrightError as error:
                    error.location, error.instruction = step.location, step.title
                    raise
    remotes.agents.start()


def with_own_helpers(
    environment: Mapping[str, str], directory: str, kept: Iterable[str], warn: Callable[[str], None]
) -> dict[str, str]:
    """The environment with a PATH that has the credential helpers that a build leaves as they are, and nothing else.

    They must be mounted or below ``kept``, absolute paths that the build does not touch, and need no loader: others
    would run with the image's. ``directory`` is an empty one, which stays.
    """
    mounted = (b"/" + point.path for point in mounts_below("/"))
    places = [os.fsencode(os.path.realpath(path)) for path in kept] + list(mounted)
    for folder in environment.get("PATH", "").split(":"):
        for name in _helpers_in(folder):
            path = os.path.realpath(os.path.join(folder, name))
            link = os.path.join(directory, name)
            if os.path.lexists(link):
                continue
            if not any(is_at_or_below(os.fsencode(path), place) for place in places):
                warn(f'"{path}" is not used: the build replaces it. Put it into /kaniko')
            elif not _runs_alone(path):
                warn(f'"{path}" is not used: it is not statically linked, and would load libraries of the image')
            else:
                os.symlink(path, link)
    return {**environment, "PATH": directory}


def _helpers_in(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.startswith(_HELPER)) if folder else []
    except OSError:
        return []


def _runs_alone(path: str) -> bool:
    """Whether the kernel needs no other file to start a program: an ELF file without PT_INTERP (elf(5))."""
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return False
            head = file.read(_HEADER_BYTES)
            if len(head) < _HEADER_BYTES or not head.startswith(_ELF_64):
                return False
            (offset,) = struct.unpack_from("<Q", head, 32)
            size, count = struct.unpack_from("<HH", head, 54)
            if size != _ENTRY_BYTES or not 0 < count <= _MOST_ENTRIES:
                return False
            file.seek(offset)
            table = file.read(size * count)
    except OSError:
        return False
    kinds = {struct.unpack_from("<I", table, start)[0] for start in range(0, len(table), size)}
    return len(table) == size * count and _PT_INTERP not in kinds
