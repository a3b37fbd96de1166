"""Flags that say how registries are reached.

No I/O.
"""

from __future__ import annotations

from imagewright.cli.flags.model import Flag, Kind

REGISTRY_FLAGS: tuple[Flag, ...] = (
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
        "skip-default-registry-fallback", Kind.BOOLEAN, "", "what no mirror has is not asked for at the registry itself"
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
    Flag("skip-tls-verify-registry", Kind.LIST, "HOST", "accept any certificate of one registry"),
    Flag("registry-certificate", Kind.LIST, "HOST=FILE", "a CA certificate for one registry (PEM)"),
    Flag("registry-client-cert", Kind.LIST, "HOST=CERT,KEY", "our own certificate for one registry, and its key (PEM)"),
    Flag(
        "credential-helpers",
        Kind.LIST,
        "NAME",
        "env, google, ecr, acr, gitlab: where logins are looked for beside config.json; all if not given, none if empty",
    ),
    Flag("push-retry", Kind.NUMBER, "COUNT", "further tries of a push, beside those that the engine makes by itself"),
    Flag("image-download-retry", Kind.NUMBER, "COUNT", "the same for pulls"),
    Flag("image-fs-extract-retry", Kind.NUMBER, "COUNT", "the same: a layer is unpacked while it is downloaded"),
    Flag("skip-push-permission-check", Kind.BOOLEAN, "", "don't ask before the build whether its image may be pushed"),
    Flag("push-ignore-immutable-tag-errors", Kind.BOOLEAN, "", "a tag that the registry won't move is no failure"),
)

# Of these, what says how registries are reached for pulls: other commands that ask registries take them too.
PULL_FLAGS = frozenset(
    """insecure-pull insecure-registry registry-mirror registry-map registry-endpoint registry-certificate
    registry-client-cert skip-tls-verify-pull skip-tls-verify-registry skip-default-registry-fallback
    credential-helpers image-download-retry""".split()
)
