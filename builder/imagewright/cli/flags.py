"""The flags of ``imagewright build``: kaniko's names and meanings, as a table.

No I/O. Read by ``cli.arguments``; the table is also what ``--help`` and docs/flags.md show.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How a flag takes its value. A BOOLEAN never takes the next word (pflag): ``--x`` or ``--x=false``."""

    BOOLEAN = "boolean"
    TEXT = "text"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. ``environment`` names the variable that sets it where the command line doesn't, as in kaniko."""

    name: str
    kind: Kind
    value: str  # how the value is shown in the help
    help: str
    short: str = ""
    environment: str = ""


BUILD_FLAGS: tuple[Flag, ...] = (
    Flag("context", Kind.TEXT, "SOURCE", "dir://, a path, tar://, tar://stdin, git:// or https://….git", "c"),
    Flag("context-sub-path", Kind.TEXT, "PATH", "folder inside the context to build from"),
    Flag("dockerfile", Kind.TEXT, "PATH", "the Dockerfile, in the context or by its own path", "f"),
    Flag("destination", Kind.LIST, "REFERENCE", "where to push the image; may be given many times", "d"),
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
    Flag(
        "cache-dir",
        Kind.TEXT,
        "FOLDER",
        "where RUN --mount=type=cache lives between builds; in the executor image /cache, if it is mounted",
    ),
    Flag("label", Kind.LIST, "KEY=VALUE", "a label of the image"),
    Flag("no-push", Kind.BOOLEAN, "", "build without pushing", environment="KANIKO_NO_PUSH"),
    Flag("oci-layout-path", Kind.TEXT, "FOLDER", "write the image as an OCI image layout too"),
    Flag("tar-path", Kind.TEXT, "FILE", "write the image as a docker-archive too"),
    Flag("digest-file", Kind.TEXT, "FILE", "write the image's digest there"),
    Flag("insecure", Kind.BOOLEAN, "", "push over plain HTTP where HTTPS is not answered"),
    Flag("insecure-pull", Kind.BOOLEAN, "", "pull over plain HTTP where HTTPS is not answered"),
    Flag(
        "insecure-registry",
        Kind.LIST,
        "HOST",
        "the same, for one registry",
        environment="IMAGEWRIGHT_INSECURE_REGISTRY",
    ),
    Flag("registry-mirror", Kind.LIST, "HOST[/PATH]", "tried before Docker Hub", environment="KANIKO_REGISTRY_MIRROR"),
    Flag(
        "registry-map",
        Kind.LIST,
        "HOST=HOST[;…]",
        "tried before a registry, for pulls",
        environment="KANIKO_REGISTRY_MAP",
    ),
    Flag(
        "registry-endpoint",
        Kind.LIST,
        "HOST=HOST",
        "reach a registry at another address, for pulls and pushes",
        environment="IMAGEWRIGHT_REGISTRY_ENDPOINT",
    ),
    Flag("skip-tls-verify", Kind.BOOLEAN, "", "accept any certificate when pushing"),
    Flag("registry-certificate", Kind.LIST, "HOST=FILE", "a CA certificate for one registry (PEM)"),
    Flag("custom-platform", Kind.TEXT, "OS/ARCH[/VARIANT]", "the platform to build for"),
    Flag("sandbox", Kind.TEXT, "KIND", "auto, namespace, root or chroot: how RUN is isolated"),
    Flag("work-dir", Kind.TEXT, "FOLDER", "where root file systems and layers are made", environment="IMAGEWRIGHT_DIR"),
    Flag("verbosity", Kind.TEXT, "LEVEL", "panic, fatal, error, warn, info, debug or trace", "v"),
    Flag("log-format", Kind.TEXT, "FORMAT", "text, color or json"),
    Flag("log-timestamp", Kind.BOOLEAN, "", "a timestamp before every line of text"),
)

# Of these, what says how registries are reached for pulls: other commands that ask registries take them too.
PULL_FLAGS = frozenset(
    "insecure-pull insecure-registry registry-mirror registry-map registry-endpoint registry-certificate".split()
)

# kaniko's flags that this release does not have yet: an error each, so that nothing a user asks for is ignored.
LATER_FLAGS = frozenset(
    """annotation bucket cache cache-copy-layers cache-repo cache-run-layers cache-ttl cleanup
    compressed-caching compression compression-level credential-helpers dryrun force force-build-metadata git
    ignore-path ignore-var-run image-download-retry image-format image-fs-extract-retry
    image-name-tag-with-digest-file image-name-with-digest-file kaniko-dir materialize no-push-cache pre-cleanup
    preserve-context push-ignore-immutable-tag-errors push-retry registry-client-cert reproducible
    single-snapshot skip-default-registry-fallback skip-push-permission-check skip-tls-verify-pull
    skip-tls-verify-registry skip-unused-stages snapshot-mode use-new-run whitelist-var-run""".split()
)
