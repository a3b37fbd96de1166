"""The flags of a build: kaniko's names and meanings, as tables by theme.

No I/O. Parsing, ``--help`` and docs/flags.md follow from these tables; ``cli.request`` gives each flag its effect.
"""

from __future__ import annotations

from imagewright.cli.command import Flag, Kind
from imagewright.contract.sources import KINDS

# Each scheme once, without those that mean the same as another.
_SCHEMES = dict.fromkeys(scheme for kind in KINDS for scheme in kind.schemes if scheme not in ("http://", "git@"))

SOURCE_FLAGS: tuple[Flag, ...] = (
    Flag("context", Kind.TEXT, "SOURCE", f"the files to build from: a directory, {', '.join(_SCHEMES)}", "c"),
    Flag("context-sub-path", Kind.TEXT, "PATH", "build from this directory inside the context"),
    Flag(
        "bucket",
        Kind.TEXT,
        "BUCKET",
        "kaniko's former way to name a context: s3://… or gs://…, the latter also without a scheme",
        "b",
    ),
    Flag(
        "git",
        Kind.TEXT,
        "branch=…,depth=…,recurse-submodules=…,insecure-skip-tls=…,single-branch=…",
        "how to clone a git context",
    ),
    Flag(
        "dockerfile",
        Kind.TEXT,
        "PATH",
        "the Dockerfile: a path in the context or on this machine, or a URL; - reads standard input",
        "f",
    ),
    Flag("build-arg", Kind.LIST, "NAME[=VALUE]", "a build argument; without a value, it is taken from the environment"),
    Flag("target", Kind.TEXT, "STAGE", "the stage to build (default: the last one)"),
    Flag(
        "build-context",
        Kind.LIST,
        "NAME=SOURCE",
        "replace a stage or image by a directory, docker-image://, oci-layout://, git or https",
    ),
    Flag(
        "secret",
        Kind.LIST,
        "id=NAME[,src=FILE|,env=VARIABLE]",
        "a secret for RUN --mount=type=secret; without src and env, the variable or else the file called NAME",
    ),
    Flag(
        "ssh",
        Kind.LIST,
        "default|NAME[=SOCKET|=KEYFILE[,KEYFILE]]",
        "an agent (default: SSH_AUTH_SOCK) or private keys without a passphrase for RUN --mount=type=ssh",
    ),
    Flag(
        "custom-platform",
        Kind.TEXT,
        "OS/ARCH[/VARIANT]",
        "the platform to build for",
        deprecated_name="customPlatform",
    ),
    Flag("sandbox", Kind.TEXT, "MODE", "how to isolate RUN: auto, namespace, root or chroot"),
    Flag("require-isolation", Kind.BOOLEAN, "", "refuse to build where RUN could read the credentials of this build"),
    Flag(
        "work-dir",
        Kind.TEXT,
        "DIR",
        "where to keep root file systems and layers while building",
        environment="IMAGEWRIGHT_DIR",
    ),
    Flag("kaniko-dir", Kind.TEXT, "DIR", "kaniko's name for --work-dir", environment="KANIKO_DIR"),
)

OUTPUT_FLAGS: tuple[Flag, ...] = (
    Flag("destination", Kind.LIST, "REFERENCE", "where to push the image", "d"),
    Flag("no-push", Kind.BOOLEAN, "", "build without pushing", environment="KANIKO_NO_PUSH"),
    Flag("dryrun", Kind.BOOLEAN, "", "print what would be executed, and build nothing"),
    Flag("label", Kind.LIST, "KEY=VALUE", "a label of the image"),
    Flag("annotation", Kind.LIST, "KEY=VALUE", "an annotation of the image's manifest"),
    Flag(
        "image-format",
        Kind.TEXT,
        "FORMAT",
        "media types to use: oci or docker (default: those of the base image)",
        choices=("oci", "docker"),
    ),
    Flag(
        "compression",
        Kind.TEXT,
        "ALGORITHM",
        "how to compress new layers: gzip or zstd (default: gzip)",
        choices=("gzip", "zstd"),
    ),
    Flag("compression-level", Kind.NUMBER, "LEVEL", "level of compression; -1 is the engine's default"),
    Flag("reproducible", Kind.BOOLEAN, "", "set all times to 1970, or to SOURCE_DATE_EPOCH"),
    Flag(
        "single-snapshot",
        Kind.BOOLEAN,
        "",
        "make one layer of everything that the last stage changes; its steps are not cached",
    ),
    Flag("ignore-path", Kind.LIST, "PATH", "leave this path out of the layers of RUN"),
    Flag("oci-layout-path", Kind.TEXT, "DIR", "also write the image as an OCI image layout"),
    Flag("tar-path", Kind.TEXT, "FILE", "also write the image as a docker-archive", deprecated_name="tarPath"),
    Flag("digest-file", Kind.TEXT, "FILE", "write the image's digest to this file"),
    Flag("image-name-with-digest-file", Kind.TEXT, "FILE", "write name@digest, one line per destination"),
    Flag("image-name-tag-with-digest-file", Kind.TEXT, "FILE", "write name:tag@digest, one line per destination"),
    Flag("result-file", Kind.TEXT, "FILE", "write the build's result as JSON"),
)

CACHE_FLAGS: tuple[Flag, ...] = (
    Flag("cache", Kind.BOOLEAN, "", "take layers from a cache, and store new ones there"),
    Flag(
        "cache-repo",
        Kind.TEXT,
        "REPOSITORY|oci:DIR",
        "where the cache is (default: the first destination's repository, followed by /cache)",
    ),
    Flag(
        "cache-from",
        Kind.LIST,
        "REPOSITORY|oci:DIR",
        "look layers up here too, after --cache-repo; without --cache-repo and --cache-to, store nothing",
    ),
    Flag("cache-to", Kind.TEXT, "REPOSITORY|oci:DIR", "store layers here; look them up only in --cache-from"),
    Flag(
        "cache-ttl",
        Kind.TEXT,
        "DURATION",
        "maximum age of a cached layer, such as 6h; 0 is any age (default: two weeks)",
    ),
    Flag("cache-copy-layers", Kind.BOOLEAN, "", "cache COPY and ADD (default: true)"),
    Flag("cache-run-layers", Kind.BOOLEAN, "", "cache RUN (default: true)"),
    Flag("no-push-cache", Kind.BOOLEAN, "", "store nothing in the cache"),
    Flag("explain-cache", Kind.BOOLEAN, "", "explain at the end why each step missed the cache"),
    Flag(
        "cache-dir",
        Kind.TEXT,
        "DIR",
        "where to keep RUN --mount=type=cache, warmed base images and, without --cache, indexes of layers between builds "
        "(default in the executor image: /cache, if mounted)",
    ),
)

REGISTRY_FLAGS: tuple[Flag, ...] = (
    Flag("insecure", Kind.BOOLEAN, "", "push over plain HTTP if the registry doesn't answer HTTPS"),
    Flag("insecure-pull", Kind.BOOLEAN, "", "pull over plain HTTP if the registry doesn't answer HTTPS"),
    Flag(
        "insecure-registry",
        Kind.LIST,
        "HOST",
        "allow plain HTTP for this registry",
        environment="IMAGEWRIGHT_INSECURE_REGISTRY",
    ),
    Flag(
        "registry-mirror",
        Kind.LIST,
        "HOST[/PATH]",
        "a mirror to try before Docker Hub",
        environment="KANIKO_REGISTRY_MIRROR",
    ),
    Flag(
        "registry-map",
        Kind.LIST,
        "HOST=HOST[;…]",
        "a mirror to try before a registry, for pulls",
        environment="KANIKO_REGISTRY_MAP",
    ),
    Flag(
        "skip-default-registry-fallback",
        Kind.BOOLEAN,
        "",
        "don't fall back to the registry for images that no mirror has",
    ),
    Flag(
        "registry-endpoint",
        Kind.LIST,
        "HOST=HOST",
        "reach a registry at another address, for pulls and pushes",
        environment="IMAGEWRIGHT_REGISTRY_ENDPOINT",
    ),
    Flag("skip-tls-verify", Kind.BOOLEAN, "", "accept any certificate when pushing"),
    Flag("skip-tls-verify-pull", Kind.BOOLEAN, "", "accept any certificate when pulling"),
    Flag("skip-tls-verify-registry", Kind.LIST, "HOST", "accept any certificate from this registry"),
    Flag("registry-certificate", Kind.LIST, "HOST=FILE", "a CA certificate for one registry (PEM)"),
    Flag("registry-client-cert", Kind.LIST, "HOST=CERT,KEY", "a client certificate and its key for one registry (PEM)"),
    Flag(
        "credential-helpers",
        Kind.LIST,
        "NAME",
        "where to look for logins in addition to config.json: env, google, ecr, acr, gitlab (default: all); none if empty",
    ),
    Flag("push-retry", Kind.NUMBER, "COUNT", "retries of a push, in addition to the engine's own"),
    Flag("image-download-retry", Kind.NUMBER, "COUNT", "retries of a pull, in addition to the engine's own"),
    Flag(
        "image-fs-extract-retry",
        Kind.NUMBER,
        "COUNT",
        "the same as --image-download-retry: layers are unpacked while they are downloaded",
    ),
    Flag("skip-push-permission-check", Kind.BOOLEAN, "", "don't check before the build that the image may be pushed"),
    Flag(
        "push-ignore-immutable-tag-errors",
        Kind.BOOLEAN,
        "",
        "succeed even if the registry refuses to move an immutable tag",
    ),
)

# Those of REGISTRY_FLAGS that other commands which pull take too.
PULL_FLAGS = frozenset(
    """insecure-pull insecure-registry registry-mirror registry-map registry-endpoint registry-certificate
    registry-client-cert skip-tls-verify-pull skip-tls-verify-registry skip-default-registry-fallback
    credential-helpers image-download-retry""".split()
)

LOG_FLAGS: tuple[Flag, ...] = (
    Flag("verbosity", Kind.TEXT, "LEVEL", "panic, fatal, error, warn, info, debug or trace", "v"),
    Flag("log-format", Kind.TEXT, "FORMAT", "text, color or json"),
    Flag("log-timestamp", Kind.BOOLEAN, "", "start every line of text with a timestamp"),
    Flag(
        "timings",
        Kind.TEXT,
        "FILE",
        "write where the time went, as a trace for Perfetto or chrome://tracing; with --verbosity=debug, also log a summary",
    ),
)

_SEPARATE = "the build's files are in a directory of their own, never in place of the container's"
_MOUNTED = "mounts never enter a layer, at /var/run or elsewhere"

# kaniko's, which work around problems that the engine doesn't have.
NO_EFFECT_FLAGS: tuple[Flag, ...] = (
    Flag(
        "cleanup",
        Kind.BOOLEAN,
        "",
        "clean up after the build",
        environment="KANIKO_CLEANUP",
        no_effect="the work directory is always removed",
    ),
    Flag(
        "pre-cleanup",
        Kind.BOOLEAN,
        "",
        "clean up before the build",
        environment="KANIKO_PRE_CLEANUP",
        no_effect="every build starts with an empty directory",
    ),
    Flag(
        "preserve-context",
        Kind.BOOLEAN,
        "",
        "restore the context after the build",
        environment="KANIKO_PRESERVE_CONTEXT",
        no_effect="a build never changes its context",
    ),
    Flag("materialize", Kind.BOOLEAN, "", "leave the image's files behind", no_effect=_SEPARATE),
    Flag("force", Kind.BOOLEAN, "", "build outside of a container", no_effect="the engine runs anywhere"),
    Flag(
        "force-build-metadata",
        Kind.BOOLEAN,
        "",
        "record instructions that change no file",
        no_effect="the history always has every instruction",
    ),
    Flag(
        "compressed-caching",
        Kind.BOOLEAN,
        "",
        "compress cached layers",
        no_effect="a layer is compressed once, in bounded memory, and is the same blob in the cache and in the image",
    ),
    Flag(
        "skip-unused-stages",
        Kind.BOOLEAN,
        "",
        "build only the stages that are needed",
        no_effect="stages that the target doesn't need are never built",
    ),
    Flag(
        "snapshot-mode",
        Kind.TEXT,
        "MODE",
        "how to find changes",
        choices=("full", "redo", "time"),
        deprecated_name="snapshotMode",
        no_effect="changes are found by inodes and their ctime, which is as exact as full and as fast as time",
    ),
    Flag(
        "use-new-run",
        Kind.BOOLEAN,
        "",
        "find the changes of a RUN by their times",
        no_effect="changes are found by inodes and their ctime",
    ),
    Flag("ignore-var-run", Kind.BOOLEAN, "", "leave /var/run out of layers", no_effect=_MOUNTED),
    Flag("whitelist-var-run", Kind.BOOLEAN, "", "the former name of --ignore-var-run", no_effect=_MOUNTED),
)

# Docker's names, which ``imagewright build`` and ``plan`` take as well, and kaniko's executor doesn't.
DOCKER_FLAGS: tuple[Flag, ...] = (
    Flag("tag", Kind.LIST, "REFERENCE", "the same as --destination", "t", alias_of="destination"),
)

# As the documentation shows them.
THEMES: tuple[tuple[str, tuple[Flag, ...]], ...] = (
    ("Source", SOURCE_FLAGS),
    ("Output", OUTPUT_FLAGS),
    ("Caches", CACHE_FLAGS),
    ("Registries", REGISTRY_FLAGS),
    ("Logging", LOG_FLAGS),
    ("Flags without effect", NO_EFFECT_FLAGS),
)
BUILD_FLAGS: tuple[Flag, ...] = tuple(flag for _, flags in THEMES for flag in flags)  # all of kaniko's executor
COMMAND_FLAGS: tuple[Flag, ...] = (*BUILD_FLAGS, *DOCKER_FLAGS)  # of the commands build and plan
