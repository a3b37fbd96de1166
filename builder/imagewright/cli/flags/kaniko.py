"""Flags of kaniko's that work around something which is no problem here: accepted, with the reason.

No I/O.
"""

from __future__ import annotations

from imagewright.cli.flags.model import Flag, Kind

_APART = "the build's files are in a folder of their own, never in this container's place"
_MOUNTED = "what is mounted never enters a layer, there or elsewhere"
_MODES = ("full", "redo", "time")

KANIKO_FLAGS: tuple[Flag, ...] = (
    Flag(
        "cleanup",
        Kind.BOOLEAN,
        "",
        "clean up after the build",
        environment="KANIKO_CLEANUP",
        pointless="the work folder is always removed",
    ),
    Flag(
        "pre-cleanup",
        Kind.BOOLEAN,
        "",
        "clean up before the build",
        environment="KANIKO_PRE_CLEANUP",
        pointless="every build begins with an empty folder",
    ),
    Flag(
        "preserve-context",
        Kind.BOOLEAN,
        "",
        "restore the context after the build",
        environment="KANIKO_PRESERVE_CONTEXT",
        pointless="a build never changes its context",
    ),
    Flag("materialize", Kind.BOOLEAN, "", "leave the image's files behind", pointless=_APART),
    Flag("force", Kind.BOOLEAN, "", "build outside of a container", pointless="the engine runs anywhere"),
    Flag(
        "force-build-metadata",
        Kind.BOOLEAN,
        "",
        "record what changes no file",
        pointless="the history has every instruction, always",
    ),
    Flag(
        "compressed-caching",
        Kind.BOOLEAN,
        "",
        "compress cached layers",
        pointless="a layer is compressed once, in bounded memory, and is the same blob in the cache and in the image",
    ),
    Flag(
        "skip-unused-stages",
        Kind.BOOLEAN,
        "",
        "build only the stages that are needed",
        pointless="stages that the target does not need are never built",
    ),
    Flag(
        "snapshot-mode",
        Kind.TEXT,
        "MODE",
        "how changes are found",
        choices=_MODES,
        earlier="snapshotMode",
        pointless="changes are found by inodes and their ctime, which is as exact as full and as fast as time",
    ),
    Flag(
        "use-new-run",
        Kind.BOOLEAN,
        "",
        "find the changes of a RUN by their times",
        pointless="changes are found by inodes and their ctime",
    ),
    Flag("ignore-var-run", Kind.BOOLEAN, "", "leave /var/run out of layers", pointless=_MOUNTED),
    Flag("whitelist-var-run", Kind.BOOLEAN, "", "the same, by its older name", pointless=_MOUNTED),
)
