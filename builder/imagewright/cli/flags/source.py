"""Flags that say what is built: the context, the Dockerfile, arguments, secrets.

No I/O.
"""

from __future__ import annotations

from imagewright.cli.flags.model import Flag, Kind
from imagewright.contract.sources import KINDS

# Each scheme once, without those that mean the same as another.
_SCHEMES = dict.fromkeys(scheme for kind in KINDS for scheme in kind.schemes if scheme not in ("http://", "git@"))

SOURCE_FLAGS: tuple[Flag, ...] = (
    Flag(
        "context",
        Kind.TEXT,
        "SOURCE",
        f"the files to build from: a directory, {', '.join(_SCHEMES)}",
        "c",
    ),
    Flag("context-sub-path", Kind.TEXT, "PATH", "folder inside the context to build from"),
    Flag(
        "bucket",
        Kind.TEXT,
        "BUCKET",
        "kaniko's old way to name a context: s3://… or gs://…, the latter without a scheme",
        "b",
    ),
    Flag(
        "git",
        Kind.TEXT,
        "branch=…,depth=…,recurse-submodules=…,insecure-skip-tls=…,single-branch=…",
        "how a git context is cloned",
    ),
    Flag(
        "dockerfile",
        Kind.TEXT,
        "PATH",
        "the Dockerfile, in the context, by its own path or its address; - is standard input",
        "f",
    ),
    Flag("build-arg", Kind.LIST, "NAME[=VALUE]", "a build argument; without a value, from the environment"),
    Flag("target", Kind.TEXT, "STAGE", "the stage to build; the last one if not given"),
    Flag(
        "build-context",
        Kind.LIST,
        "NAME=SOURCE",
        "replace a stage or image by a folder, docker-image://, oci-layout://, git or https",
    ),
    Flag(
        "secret",
        Kind.LIST,
        "id=NAME[,src=FILE|,env=VARIABLE]",
        "for RUN --mount=type=secret; without src and env, the variable or else the file of that name",
    ),
    Flag(
        "ssh",
        Kind.LIST,
        "default|NAME[=SOCKET|=KEYFILE[,KEYFILE]]",
        "for RUN --mount=type=ssh: an agent, SSH_AUTH_SOCK if not named, or private keys without a passphrase",
    ),
    Flag("custom-platform", Kind.TEXT, "OS/ARCH[/VARIANT]", "the platform to build for", earlier="customPlatform"),
    Flag("sandbox", Kind.TEXT, "KIND", "auto, namespace, root or chroot: how RUN is isolated"),
    Flag("work-dir", Kind.TEXT, "FOLDER", "where root file systems and layers are made", environment="IMAGEWRIGHT_DIR"),
    Flag("kaniko-dir", Kind.TEXT, "FOLDER", "the same, by kaniko's name", environment="KANIKO_DIR"),
)
