#!/usr/bin/python3
"""Copies this root file system's userland into one folder and lets every program in it run from there.

usage: relocate FOLDER

Programs name their loader by a path (PT_INTERP): it becomes FOLDER/ld.so, written over the old one, which is longer.
Libraries are found through LD_LIBRARY_PATH, which the image sets. So nothing of an image that is built in place of / is
ever loaded into the engine.
"""

import glob
import os
import shutil
import struct
import subprocess
import sys
import sysconfig

PT_INTERP = 3
COPIED = ("usr", "bin", "lib", "lib64", "sbin", "etc/ssl", "etc/ssh")
# Nothing that builds, fetches contexts or is asked for by git's plumbing. Perl is a third of what Debian's git brings.
LEFT_OUT = (
    *(f"usr/share/{name}" for name in ("doc", "man", "info", "locale", "zoneinfo", "bash-completion", "lintian")),
    *(f"usr/share/{name}" for name in ("perl*", "gitweb", "keyrings")),
    *("usr/lib/*-linux-*/perl*", "usr/lib/*-linux-*/libperl*", "usr/bin/perl*", "usr/lib/*-linux-*/gconv"),
    *("usr/lib/apt", "usr/lib/dpkg", "usr/bin/apt*", "usr/bin/dpkg*", "usr/bin/sqv", "usr/lib/*-linux-*/libapt-*"),
    *("usr/lib/python3.*/test", "usr/lib/python3/dist-packages/pip*"),
    "usr/local/lib/python3.*/dist-packages/zstandard/_cffi*",  # a second implementation of the same
)


def main(folder: str) -> None:
    for name in COPIED:
        if os.path.lexists(f"/{name}"):
            os.makedirs(os.path.dirname(f"{folder}/{name}"), exist_ok=True)
            subprocess.run(["cp", "-a", f"/{name}", f"{folder}/{name}"], check=True)
    for pattern in LEFT_OUT:
        for path in glob.glob(f"{folder}/{pattern}"):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
    loaders = set()
    # A program with a group or user of its own (ssh-agent) is given no LD_LIBRARY_PATH by the loader.
    for parent, _, names in os.walk(f"{folder}/usr"):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.isfile(path) and not os.path.islink(path) and os.access(path, os.X_OK):
                os.chmod(path, os.stat(path).st_mode & 0o777)
                loader = relocate(path, folder)
                if loader:
                    loaders.add(loader)
    assert len(loaders) == 1, f"one loader was expected: {loaders}"
    os.symlink(folder + loaders.pop(), f"{folder}/ld.so")
    # One name for the libraries' folder on every architecture.
    os.symlink(f"usr/lib/{sysconfig.get_config_var('MULTIARCH')}", f"{folder}/libraries")


def relocate(path: str, folder: str) -> str:
    """Let a program or a shell script start from ``folder``; the loader that it named, "" for none."""
    with open(path, "r+b") as file:
        head = file.read(64)
        if head.startswith(b"#!/bin/sh"):
            file.seek(0)
            content = file.read()
            file.seek(0)
            file.write(content.replace(b"#!/bin/sh", f"#!{folder}/usr/bin/sh".encode(), 1))
            return ""
        if not head.startswith(b"\x7fELF\x02\x01"):
            return ""
        offset, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        for index in range(count):
            file.seek(offset + index * size)
            kind, _, start, _, _, length = struct.unpack("<IIQQQQ", file.read(40))
            if kind != PT_INTERP:
                continue
            file.seek(start)
            loader = file.read(length).rstrip(b"\0").decode()
            new = f"{folder}/ld.so".encode()
            if loader.encode() == new:
                return ""  # another name of a file that was seen
            assert len(new) < length, f"{path}: no room for {new!r}"
            file.seek(start)
            file.write(new.ljust(length, b"\0"))
            return loader
    return ""


main(sys.argv[1])
