"""The flags of ``create`` that set fields of the spec.

I/O: reads the Dockerfile of ``--inline``.
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
_CACHES = ("repository", "from", "to")
_CONVERTED_WITH_LOGIN = tuple(kind.field for kind in KINDS if kind.secret_keys)  # some only a manifest gives

_KEY_EXAMPLES = {"secret": "npmrc=my-secret/.npmrc", "ssh": "default=my-key/ssh-privatekey"}


def add_fields(parser: Parser) -> None:
    """Add the flags, in the groups of ``--help``."""
    group = parser.add_argument_group("source and build")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--git", metavar="URL", help="URL of a git repository, over https or ssh")
    source.add_argument("--http", metavar="URL", help="URL of an archive")
    source.add_argument("--oci", metavar="REFERENCE", help="reference of an artifact in a registry")
    source.add_argument("--configmap", metavar="NAME", help="ConfigMap whose keys are the files")
    source.add_argument("--volume", metavar="CLAIM[/FOLDER]", help="PersistentVolumeClaim, and a directory in it")
    source.add_argument("--inline", metavar="FILE|-", help="local Dockerfile, without a context")
    group.add_argument("--revision", metavar="REVISION", help="branch, refs/tags/TAG or full commit of --git")
    group.add_argument(
        "--poll", metavar="DURATION", help="interval at which to check whether the branch or tag of --git has moved"
    )
    group.add_argument("--source-secret", metavar="NAME", help="Secret with the login for --git, --http or --oci")
    group.add_argument("--context-dir", metavar="PATH", help="directory of the source to use as the context")
    group.add_argument(
        "--dockerfile", metavar="PATH", help="path of the Dockerfile in the context (default: Dockerfile)"
    )
    group.add_argument("--target", metavar="STAGE", help="stage to build (default: the last)")
    group.add_argument(
        "--build-arg", metavar="NAME=VALUE", action="append", default=[], help="build argument; repeatable"
    )
    group.add_argument(
        "--secret", metavar="ID=SECRET/KEY", action="append", default=[], help="for RUN --mount=type=secret; repeatable"
    )
    group.add_argument(
        "--ssh", metavar="ID=SECRET/KEY", action="append", default=[], help="for RUN --mount=type=ssh; repeatable"
    )
    group.add_argument("--platform", metavar="OS/ARCH", help="platform of the image (default: the node's)")
    group = parser.add_argument_group("output")
    group.add_argument(
        "-t", "--tag", metavar="REFERENCE", action="append", default=[], help="image to push; repeatable"
    )
    group.add_argument("--push-secret", metavar="NAME", help="Secret with the registry's login")
    group.add_argument(
        "--label", metavar="KEY=VALUE", action="append", default=[], help="label of the image; repeatable"
    )
    group.add_argument(
        "--annotation", metavar="KEY=VALUE", action="append", default=[], help="annotation of the manifest; repeatable"
    )
    group.add_argument(
        "--format", choices=("OCI", "Docker"), metavar="OCI|Docker", help="media types (default: the base image's)"
    )
    group.add_argument(
        "--compression", choices=("Gzip", "Zstd"), metavar="Gzip|Zstd", help="compression of layers (default: Gzip)"
    )
    group.add_argument("--reproducible", action="store_true", help="set all timestamps to 1970-01-01")
    group.add_argument("--insecure", action="store_true", help="push over plain HTTP where the registry has no HTTPS")
    group = parser.add_argument_group("cache and limits")
    group.add_argument("--cache-repo", metavar="REPOSITORY", help="repository that caches layers")
    group.add_argument(
        "--cache-from",
        action="append",
        metavar="REPOSITORY",
        help="repository to look layers up in as well (repeatable)",
    )
    group.add_argument(
        "--cache-to", metavar="REPOSITORY", help="repository to store layers in, instead of --cache-repo"
    )
    group.add_argument("--cache-ttl", metavar="DURATION", help="maximum age of cached layers (default: two weeks)")
    group.add_argument("--cache-volume", metavar="CLAIM", help="PersistentVolumeClaim for RUN --mount=type=cache")
    group.add_argument("--timeout", metavar="DURATION", help="maximum duration of a build (default: 1h)")
    group.add_argument(
        "--require-isolation", action="store_true", help="refuse the build if RUN could read its credentials"
    )


def given_fields(options: argparse.Namespace) -> Json:
    """The fields of the spec that the flags set.

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
        ("requireIsolation", options.require_isolation),
    ):
        if value:
            spec[name] = value
    return spec


def merged(spec: Json, given: Json) -> Json:
    """A converted spec, overridden by flags: the source as a whole, output and cache field by field."""
    result = {**spec, **given}
    for name in ("output", "cache"):
        if name in spec and name in given:
            result[name] = {**spec[name], **given[name]}
    if "cache" in given and given["cache"].keys() & _CACHES:  # they say together where layers are
        result["cache"] = {
            name: value for name, value in result["cache"].items() if name in given["cache"] or name not in _CACHES
        }
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
    """A converted source with the fields of ``--revision``, ``--poll`` and ``--source-secret``.

    Raises:
        UsageError: a source of its kind has no such field.
    """
    kind = next(iter(source), "")
    for flag, value, needs in _source_flags(options, _CONVERTED_WITH_LOGIN):
        if value and kind not in needs:
            raise UsageError(
                f"--{flag} requires a source of type {' or '.join(needs)}: the manifest's is {kind or 'missing'}",
                hint="Remove the flag, or set the source as well, for example with --git URL.",
            )
    return {kind: {**source[kind], **_source_fields(options)}} if kind else {}


def _source(options: argparse.Namespace) -> Json:
    kind = next((one for one in _SOURCES if getattr(options, one)), "")
    if not kind and (options.manifest or options.kaniko):
        return {}  # the manifest's: see joined_source
    for flag, value, needs in _source_flags(options, _WITH_LOGIN):
        if value and kind not in needs:
            raise UsageError(f"--{flag} requires --{' or --'.join(needs)}", hint="Remove the flag, or add the source.")
    value = getattr(options, kind) if kind else ""
    match kind:
        case "git":
            return {"git": {"url": value, **_source_fields(options)}}
        case "http":
            return {"http": {"url": value, **_source_fields(options)}}
        case "oci":
            return {"oci": {"image": value, **_source_fields(options)}}
        case "configmap":
            return {"configMap": {"name": value}}
        case "volume":
            claim, _, folder = value.partition("/")
            return {"volume": {"claimName": claim, **({"subPath": folder} if folder else {})}}
        case "inline":
            return {"inline": {"dockerfile": _read(value)}}
    return {}


def _source_flags(options: argparse.Namespace, with_login: Sequence[str]) -> tuple[tuple[str, str, Sequence[str]], ...]:
    """Flags of a source: their names, values and the kinds of source that have such a field."""
    return (
        ("revision", options.revision, ("git",)),
        ("poll", options.poll, ("git",)),
        ("source-secret", options.source_secret, with_login),
    )


def _source_fields(options: argparse.Namespace) -> Json:
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


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read --inline={file}: {getattr(error, 'strerror', None) or error}",
            hint="Name a text file, or - for standard input.",
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
        "from": options.cache_from,
        "to": options.cache_to,
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
            raise UsageError(
                f'invalid --{flag} value "{text}": not {form}', hint=f"Use, for example, --{flag} {example}."
            )
        pairs.append((name, value))
    return pairs


def _keys(flag: str, values: Iterable[str]) -> Iterator[Json]:
    form, example = "ID=SECRET/KEY", _KEY_EXAMPLES[flag]
    for name, reference in _pairs(flag, values, form, example):
        secret, slash, key = reference.partition("/")
        if not secret or not slash or not key:
            raise UsageError(
                f'invalid --{flag} value "{name}={reference}": not {form}',
                hint=f"Use, for example, --{flag} {example}.",
            )
        yield {"id": name, "secretKeyRef": {"name": secret, "key": key}}
