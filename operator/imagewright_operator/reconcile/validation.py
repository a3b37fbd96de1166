"""Validation beyond the CRD's schema: problems of a spec that this version cannot build.

No I/O but the log. Each problem becomes part of the conditions' message, with reason ``InvalidSpec``.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from imagewright.contract import COMPRESSION_LEVELS
from imagewright.errors import ImagewrightError, UsageError
from imagewright.logins import without_logins
from imagewright.reference import Reference
from imagewright_operator.api import ImageBuild, Metadata, Spec, Status, urlrules
from imagewright_operator.api.base import MAX_INLINE_BYTES, describe, parse_duration
from imagewright_operator.api.source import choices
from imagewright_operator.api.spec import Compression, Format
from imagewright_operator.api.status import Build
from imagewright_operator.pods.manifests import executor_pod, poll_pod
from imagewright_operator.reconcile import allowlist, secretnames
from imagewright_operator.reconcile.inputs import Inputs
from imagewright_operator.settings import Profile, Settings

_LOG = logging.getLogger(__name__)
_PLATFORM = re.compile(r"linux/[a-z0-9]+(/v[0-9]+)?")
_MAX_DEPTH = 24  # of a spec; the definition's own depth is 13
_SHOWN = 100  # characters of a path


def problems(imagebuild: ImageBuild, settings: Settings) -> tuple[str, ...]:
    """All problems of a spec, most basic first; empty if it can be built."""
    return (*defects(imagebuild, settings), *refusals(imagebuild, settings))


def refusals(imagebuild: ImageBuild, settings: Settings) -> tuple[str, ...]:
    """What this installation does not allow. That depends on its settings, so a finished build is not judged by it."""
    return _judged(
        lambda: (
            *allowlist.problems(imagebuild.spec.pod_template, settings),
            *secretnames.problems(imagebuild, settings),
        )
    )


def defects(imagebuild: ImageBuild, settings: Settings) -> tuple[str, ...]:
    """What no installation of this version can build."""
    spec = imagebuild.spec
    return _judged(
        lambda: (
            *_source(spec),
            *_output(spec),
            *_form(spec),
            *_references(spec),
            *_paths(spec),
            *_durations(spec),
            *_mounts(spec),
            *(f"{name} is not supported yet: remove it" for name in _not_supported(spec)),
        )
    ) or _judged(lambda: _manifests(imagebuild, settings))


def read(body: Mapping[str, Any]) -> tuple[ImageBuild, str]:
    """The ImageBuild and "", or one with an empty spec and why it cannot be parsed."""
    try:
        problem = _too_deep(body.get("spec"))
        if not problem:
            imagebuild = ImageBuild.parse(body)
            Inputs.of(imagebuild)
            return imagebuild, ""
    except ValidationError as error:
        problem = describe(error)
    except Exception as error:  # noqa: BLE001 - whatever one object holds must cost this object only
        problem = _defect(error)
    metadata = Metadata.model_validate(body["metadata"])
    try:
        status = Status.model_validate(body.get("status") or {})
    except ValidationError:
        status = Status()
    return ImageBuild(metadata=metadata, spec=Spec(), status=status), problem


def _judged(find: Callable[[], Iterable[str]]) -> tuple[str, ...]:
    """What ``find`` finds. If it fails that is a problem of this object, which its owner sees, and of no other."""
    try:
        return tuple(without_logins(problem) for problem in find())
    except Exception as error:  # noqa: BLE001 - see above
        return (_defect(error),)


def _defect(error: Exception) -> str:
    _LOG.error("cannot judge a spec", exc_info=error)
    return f"spec cannot be read by this version of the operator, whose log has the details: {type(error).__name__}"


def _too_deep(spec: Any) -> str:
    """Why the spec is refused unread: a field in it is nested deeper than any that the definition has.

    An older definition had open fields. What is deeper than ``kubeapi.documents`` reads is missing here.
    """
    names: list[Any] = []  # of the node that is looked at, one for each level
    levels = [_nested(spec)] if isinstance(spec, (Mapping, list)) else []
    while levels:
        name, node = next(levels[-1], (None, None))
        if node is None:
            levels.pop()
            names = names[: len(levels) - 1]
            continue
        names.append(name)
        if len(levels) == _MAX_DEPTH:
            path = "spec" + "".join(f".{one[:_SHOWN]}" if isinstance(one, str) else f"[{one}]" for one in names)
            return f"{path[:_SHOWN]}… is nested more than {_MAX_DEPTH} levels deep: remove it"
        levels.append(_nested(node))
    return ""


def _nested(node: Any) -> Iterator[tuple[Any, Any]]:
    """The names and values in a node that are nodes themselves."""
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
    return ((name, value) for name, value in pairs if isinstance(value, (Mapping, list)))


def _source(spec: Spec) -> Iterator[str]:
    given = [*spec.source.given]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        yield f"spec.source must have exactly one source but has {found}: use one of {choices()}"
        return
    for kind, field, url in _urls(spec):
        if wrong := urlrules.problem(kind, url):
            yield f"spec.source.{kind}.{field} {wrong}"
    inline = spec.source.inline
    if inline is not None and len(inline.dockerfile.encode()) > MAX_INLINE_BYTES:
        yield "spec.source.inline.dockerfile is longer than 16 KiB of UTF-8: put it into a ConfigMap or a git repository"


def _urls(spec: Spec) -> Iterator[tuple[str, str, str]]:
    source = spec.source
    for kind, field, url in (
        ("git", "url", source.git.url if source.git is not None else None),
        ("http", "url", source.http.url if source.http is not None else None),
        ("s3", "endpoint", source.s3.endpoint if source.s3 is not None else None),
        ("azureBlob", "url", source.azure_blob.url if source.azure_blob is not None else None),
    ):
        if url is not None:
            yield kind, field, url


def _output(spec: Spec) -> Iterator[str]:
    if not spec.output.tags:
        yield "spec.output.tags is empty: add at least one image to push, such as registry.example.com/team/app:1.0"
    for tag in spec.output.tags:
        try:
            reference = Reference.parse(tag)
        except ImagewrightError as error:
            yield f"spec.output.tags: {error.message}. {error.hint}"
            continue
        if reference.digest is not None:
            yield f'spec.output.tags: "{tag}" has a digest, which is only known after the build: use name:tag'


def _form(spec: Spec) -> Iterator[str]:
    """Platforms, and combinations of fields that exclude each other."""
    for platform in spec.platforms:
        if not _PLATFORM.fullmatch(platform):
            yield f'spec.platforms has "{platform}", which is not a platform: use linux/amd64 or linux/arm64'
    output = spec.output
    if output.format is Format.DOCKER and output.compression is Compression.ZSTD:
        yield "spec.output.format Docker cannot be combined with compression Zstd, for which Docker has no media type: use format OCI"
    if output.format is Format.DOCKER and output.annotations:
        yield "spec.output.format Docker cannot be combined with annotations: use labels, or format OCI"
    levels = COMPRESSION_LEVELS[output.compression.value.lower()]
    if output.compression_level is not None and output.compression_level not in levels:
        yield f"spec.output.compressionLevel must be {levels[0]} to {levels[-1]} for {output.compression.value}"


def _references(spec: Spec) -> Iterator[str]:
    """References other than the tags."""
    for registry in spec.registries:
        if registry.mirrors_only and not registry.mirrors:
            yield f'spec.registries "{registry.host}" has mirrorsOnly without mirrors: add mirrors'
    caches = spec.cache.repositories if spec.cache is not None else {}
    for name, text in (
        ("source.oci.image", spec.source.oci.image if spec.source.oci is not None else None),
        *((f"cache.{field}", f"{name}:x") for field, name in caches.items()),
    ):
        try:
            if text is not None:
                Reference.parse(text)
        except ImagewrightError as error:
            yield f"spec.{name}: {error.message.replace(':x', '')}. {error.hint}"


def _manifests(imagebuild: ImageBuild, settings: Settings) -> Iterator[str]:
    """Whether the Pods can be made: later nobody would be told why not."""
    build = Build(id="0" * 8, inputs_hash="")
    try:
        json.dumps(executor_pod(imagebuild, build, settings, Profile.USERNS_STRICT))
        json.dumps(poll_pod(imagebuild, "a", settings, Profile.USERNS_STRICT))
    except UsageError as error:
        yield f"{error.message}. {error.hint}"


def _paths(spec: Spec) -> Iterator[str]:
    for name, path in (("contextDir", spec.context_dir), ("dockerfile", spec.dockerfile)):
        if path.startswith("/") or ".." in path.split("/"):
            yield f'spec.{name} "{path}" is outside the source: use a path inside it, such as services/api'


def _durations(spec: Spec) -> Iterator[str]:
    for name, text in (
        ("timeout", spec.timeout),
        ("startTimeout", spec.start_timeout),
        ("retention.podTTL", spec.retention.pod_ttl),
        ("cache.ttl", (spec.cache.ttl if spec.cache is not None else None) or "0s"),
    ):
        try:
            seconds = parse_duration(text).total_seconds()
        except (ValueError, OverflowError) as error:
            yield f"spec.{name}: {error}"
            continue
        if name in ("timeout", "startTimeout") and not 0 < seconds <= 24 * 3600:
            yield f'spec.{name} "{text}" must be more than 0s and at most 24h'


def _mounts(spec: Spec) -> Iterator[str]:
    for name, ids in (("secrets", [one.id for one in spec.secrets]), ("ssh", [one.id for one in spec.ssh])):
        for twice in sorted({one for one in ids if ids.count(one) > 1}):
            yield f'spec.{name} has the id "{twice}" more than once: use each id once'


def _not_supported(spec: Spec) -> Iterator[str]:
    """Fields that only a later version supports: they are never ignored silently."""
    if len(spec.platforms) > 1:
        yield "spec.platforms with more than one platform"
