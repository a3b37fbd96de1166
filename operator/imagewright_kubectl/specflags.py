"""The flags of ``create``, and the fields of a spec that they stand for.

No I/O but the Dockerfile that ``--inline`` names. Called by ``commands`` and ``createcommand``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from imagewright.contract.sources import KINDS
from imagewright.errors import UsageError
from imagewright_kubectl.options import Parser
from imagewright_kubectl.printing import Json

_COMMIT = re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
_SOURCES = ("git", "http", "oci", "configmap", "volume", "inline")
_WITH_LOGIN = ("git", "http", "oci")
_CONVERTED_WITH_LOGIN = tuple(kind.field for kind in KINDS if kind.secret_keys)  # some only a manifest gives

_KEY_EXAMPLES = {"secret": "npmrc=my-secret/.npmrc", "ssh": "default=my-key/ssh-privatekey"}


def add_fields(parser: Parser) -> None:
    """Flags in groups, as ``--help`` shows them."""
    group = parser.add_argument_group("what is built")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--git", metavar="URL", help="a git repository, over https or ssh")
    source.add_argument("--http", metavar="URL", help="an archive behind an address")
    source.add_argument("--oci", metavar="REFERENCE", help="an artifact in a registry")
    source.add_argument("--configmap", metavar="NAME", help="a ConfigMap, its keys are the files")
    source.add_argument("--volume", metavar="CLAIM[/FOLDER]", help="a PersistentVolumeClaim")
    source.add_argument("--inline", metavar="FILE|-", help="a Dockerfile of yours, without a context")
    group.add_argument("--revision", metavar="REVISION", help="a branch, refs/tags/TAG, or a whole commit")
    group.add_argument("--poll", metavar="DURATION", help="build again when the branch or tag of --git has moved")
    group.add_argument("--source-secret", metavar="NAME", help="the Secret with the login for --git, --http or --oci")
    group.add_argument("--context-dir", metavar="PATH", help="the folder of the source that is the context")
    group.add_argument("--dockerfile", metavar="PATH", help="in the context; Dockerfile if not given")
    group.add_argument("--target", metavar="STAGE", help="the last one if not given")
    group.add_argument("--build-arg", metavar="NAME=VALUE", action="append", default=[], help="may be given many times")
    group.add_argument(
        "--secret", metavar="ID=SECRET/KEY", action="append", default=[], help="for RUN --mount=type=secret; many times"
    )
    group.add_argument(
        "--ssh", metavar="ID=SECRET/KEY", action="append", default=[], help="for RUN --mount=type=ssh; many times"
    )
    group.add_argument("--platform", metavar="OS/ARCH", help="the node's if not given")
    group = parser.add_argument_group("what becomes of it")
    group.add_argument(
        "-t", "--tag", metavar="REFERENCE", action="append", default=[], help="where to push it; many times"
    )
    group.add_argument("--push-secret", metavar="NAME", help="the Secret with the registry's login")
    group.add_argument("--label", metavar="KEY=VALUE", action="append", default=[], help="of the image; many times")
    group.add_argument(
        "--annotation", metavar="KEY=VALUE", action="append", default=[], help="of the manifest; many times"
    )
    group.add_argument(
        "--format", choices=("OCI", "Docker"), metavar="OCI|Docker", help="the base image's if not given"
    )
    group.add_argument("--compression", choices=("Gzip", "Zstd"), metavar="Gzip|Zstd", help="Gzip if not given")
    group.add_argument("--reproducible", action="store_true", help="all times are 1970")
    group.add_argument("--insecure", action="store_true", help="push over plain HTTP where HTTPS is not answered")
    group = parser.add_argument_group("how it is built")
    group.add_argument("--cache-repo", metavar="REPOSITORY", help="a cache of layers in a registry")
    group.add_argument("--cache-ttl", metavar="DURATION", help="how old what is cached may be; two weeks if not given")
    group.add_argument("--cache-volume", metavar="CLAIM", help="where RUN --mount=type=cache lives")
    group.add_argument("--timeout", metavar="DURATION", help="1h if not given")


def given_fields(options: argparse.Namespace) -> Json:
    """The part of a spec that the flags say.

    Raises:
        UsageError
    """
    spec: Json = {}
    if source := _source(options):
        spec["source"] = source
    for name, value in (
        ("contextDir", options.context_dir),
        ("dockerfile", options.dockerfile),
        ("target", options.target),
        ("platforms", [options.platform] if options.platform else None),
        ("buildArgs", [{"name": name, "value": value} for name, value in _pairs("build-arg", options.build_arg)]),
        ("secrets", [*_keys("secret", options.secret)]),
        ("ssh", [*_keys("ssh", options.ssh)]),
        ("output", _output(options)),
        ("cache", _cache(options)),
        ("timeout", options.timeout),
    ):
        if value:
            spec[name] = value
    return spec


def merged(spec: Json, given: Json) -> Json:
    """A converted spec with what the flags say in its place: a source as a whole, the rest field by field."""
    result = {**spec, **given}
    for name in ("output", "cache"):
        if name in spec and name in given:
            result[name] = {**spec[name], **given[name]}
    order = (
        "source",
        "contextDir",
        "dockerfile",
        "target",
        "buildArgs",
        "secrets",
        "ssh",
        "output",
        "platforms",
        "cache",
    )
    return {
        name: result[name]
        for name in [*(one for one in order if one in result), *(one for one in result if one not in order)]
    }


def joined_source(source: Json, options: argparse.Namespace) -> Json:
    """A converted source with what ``--revision``, ``--poll`` and ``--source-secret`` say of it.

    Raises:
        UsageError: a source of its kind has no such thing.
    """
    kind = next(iter(source), "")
    for flag, value, needs in _belonging(options, _CONVERTED_WITH_LOGIN):
        if value and kind not in needs:
            raise UsageError(
                f"--{flag} is given, and the manifest's source is {kind or 'none'}, not {' or '.join(needs)}",
                hint="Leave it out, or give the source itself, such as --git URL.",
            )
    return {kind: {**source[kind], **_about_source(options)}} if kind else {}


def _source(options: argparse.Namespace) -> Json:
    kind = next((one for one in _SOURCES if getattr(options, one)), "")
    if not kind and (options.manifest or options.kaniko):
        return {}  # the manifest's, which joined_source adds the rest to
    for flag, value, needs in _belonging(options, _WITH_LOGIN):
        if value and kind not in needs:
            raise UsageError(f"--{flag} is given without --{' or --'.join(needs)}", hint="Say what it belongs to.")
    value = getattr(options, kind) if kind else ""
    match kind:
        case "git":
            return {"git": {"url": value, **_about_source(options)}}
        case "http":
            return {"http": {"url": value, **_about_source(options)}}
        case "oci":
            return {"oci": {"image": value, **_about_source(options)}}
        case "configmap":
            return {"configMap": {"name": value}}
        case "volume":
            claim, _, folder = value.partition("/")
            return {"volume": {"claimName": claim, **({"subPath": folder} if folder else {})}}
        case "inline":
            return {"inline": {"dockerfile": _read(value)}}
    return {}


def _belonging(options: argparse.Namespace, with_login: Sequence[str]) -> tuple[tuple[str, str, Sequence[str]], ...]:
    """Flags that say more of a source: their values, and the kinds of source that have that."""
    return (
        ("revision", options.revision, ("git",)),
        ("poll", options.poll, ("git",)),
        ("source-secret", options.source_secret, with_login),
    )


def _about_source(options: argparse.Namespace) -> Json:
    about = {
        "ref": _ref(options.revision) if options.revision else None,
        "poll": options.poll,
        "secretRef": {"name": options.source_secret} if options.source_secret else None,
    }
    return {name: value for name, value in about.items() if value}


def _ref(revision: str) -> Json:
    if _COMMIT.fullmatch(revision):
        return {"commit": revision.lower()}
    if revision.startswith("refs/tags/"):
        return {"tag": revision.removeprefix("refs/tags/")}
    return {"branch": revision.removeprefix("refs/heads/")}


def _read(place: str) -> str:
    try:
        return sys.stdin.read() if place == "-" else Path(place).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--inline={place}: the Dockerfile can't be read: {error}", hint="Name a text file, or -."
        ) from None


def _output(options: argparse.Namespace) -> Json:
    output = {
        "tags": options.tag,
        "pushSecretRef": {"name": options.push_secret} if options.push_secret else None,
        "format": options.format,
        "compression": options.compression,
        "labels": dict(_pairs("label", options.label)),
        "annotations": dict(_pairs("annotation", options.annotation)),
        "timestamp": "Zero" if options.reproducible else None,
        "insecure": options.insecure,
    }
    return {name: value for name, value in output.items() if value}


def _cache(options: argparse.Namespace) -> Json:
    cache = {
        "repository": options.cache_repo,
        "ttl": options.cache_ttl,
        "volume": {"claimName": options.cache_volume} if options.cache_volume else None,
    }
    return {name: value for name, value in cache.items() if value}


def _pairs(
    flag: str, values: Iterable[str], form: str = "NAME=VALUE", example: str = "name=value"
) -> list[tuple[str, str]]:
    pairs = []
    for text in values:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--{flag}={text}: not {form}", hint=f"Write --{flag} {example}.")
        pairs.append((name, value))
    return pairs


def _keys(flag: str, values: Iterable[str]) -> Iterator[Json]:
    form, example = "ID=SECRET/KEY", _KEY_EXAMPLES[flag]
    for name, place in _pairs(flag, values, form, example):
        secret, slash, key = place.partition("/")
        if not secret or not slash or not key:
            raise UsageError(f"--{flag}={name}={place}: not {form}", hint=f"Write --{flag} {example}.")
        yield {"id": name, "secretKeyRef": {"name": secret, "key": key}}
