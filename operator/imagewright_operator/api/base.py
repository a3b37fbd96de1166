"""The base model, CEL rules and scalar types that all models of the resource share.

No I/O. Rules reach the CRD through ``schema``, so that `kubectl apply` refuses an invalid value and says what to write
instead. Every string with a rule has a maximum length, which the API server multiplies into the rule's cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from imagewright.logins import without_logins

GROUP = "imagewright.dev"
VERSION = "v1alpha1"
KIND = "ImageBuild"
PLURAL = "imagebuilds"
API_VERSION = f"{GROUP}/{VERSION}"
REQUESTED_AT_ANNOTATION = f"{GROUP}/requestedAt"

MAX_INLINE_BYTES = 16 * 1024  # of UTF-8: with base64 and JSON around it, it fits into one environment variable
# Leaves room for "-", eight digits of a hash, "-" and an attempt in a Pod's host name of 63; the kubelet cuts off what
# the name of a Pod has besides that follows one which never ran.
MAX_NAME = 52

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")

Json = dict[str, Any]


class Model(BaseModel):
    """Fields are camelCase in JSON; unknown ones are ignored, so that an older operator can read a newer object."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    def as_json(self) -> Json:
        """As in a manifest, without fields that are not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class PodModel(Model):
    """A part of a Pod, as Kubernetes defines it.

    The API server drops fields that the definition doesn't have. An object from the time of an older definition may
    have them: they are kept, for ``unknown_fields`` to name them.
    """

    model_config = ConfigDict(extra="allow")


def unknown_fields(value: Any, path: str) -> Iterator[str]:
    """The paths of the fields below ``path`` that a PodModel has kept and doesn't know."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_fields(item, f"{path}[{index}]")
    elif isinstance(value, BaseModel):
        yield from (f"{path}.{name}" for name in value.model_extra or ())
        for name, field in type(value).model_fields.items():
            yield from unknown_fields(getattr(value, name), f"{path}.{field.alias or name}")


def rule(expression: str, message: str) -> Json:
    """A CEL rule, with a message that says what to write instead."""
    return {"rule": expression, "message": message}


def rules(*given: Json, **extra: Any) -> Any:
    """Schema extras: CEL rules, and vendor extensions by their short name (``list_type="set"``)."""
    schema: Json = {f"x-kubernetes-{key.replace('_', '-')}": value for key, value in extra.items()}
    if given:
        schema["x-kubernetes-validations"] = list(given)
    return schema


def describe(error: ValidationError) -> str:
    """The first error, with the field's path in JSON."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    return without_logins(f"{path}: {first['msg']}")


def parse_duration(text: str) -> timedelta:
    """``1h30m``, ``90m``, ``45s``.

    Raises:
        ValueError: not a duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f'"{text}" is not a duration: write it as 30m, 1h or 1h30m')
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


IS_DURATION = "self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$') && self.size() > 0"

Quantity = (
    Annotated[int, Field(ge=0)]
    | Annotated[
        str,
        Field(
            max_length=32,
            pattern=r"^[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,2})?$",
        ),
    ]
)

Duration = Annotated[
    str,
    Field(
        max_length=16,
        json_schema_extra=rules(rule(IS_DURATION, "is not a duration: write it as 45s, 30m, 1h or 1h30m")),
    ),
]

BuildDuration = Annotated[
    str,
    Field(
        max_length=16,
        json_schema_extra=rules(
            rule(IS_DURATION, "is not a duration: write it as 45s, 30m, 1h or 1h30m"),
            rule(
                f"!({IS_DURATION}) || (duration(self) > duration('0s') && duration(self) <= duration('24h'))",
                "must be more than 0s and at most 24h: write it as 45s, 30m, 1h or 1h30m",
            ),
        ),
    ),
]

ObjectName = Annotated[
    str,
    Field(
        max_length=253,
        json_schema_extra=rules(
            rule(
                "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
                "is not the name of an object: write lower-case letters, digits, '-' and '.', as kubectl get shows it",
            )
        ),
    ),
]

Key = Annotated[
    str,
    Field(
        max_length=253,
        json_schema_extra=rules(
            rule(
                "self.matches('^[-._a-zA-Z0-9]+$') && self != '..' && self != '.'",
                "is not a key of a Secret or ConfigMap: write letters, digits, '-', '_' and '.'",
            )
        ),
    ),
]

RelativePath = Annotated[
    str,
    Field(
        max_length=1024,
        json_schema_extra=rules(
            rule(
                "!self.startsWith('/')",
                "must not start with '/': write a path relative to the source, such as services/api",
            ),
            rule(
                r"!self.matches('(^|/)\\.\\.(/|$)')",
                "must not hold '..': write a path inside the source, such as services/api",
            ),
        ),
    ),
]

_PATH = "[a-z0-9]+((\\\\.|_|__|-+)[a-z0-9]+)*"
_HOST = "([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\\\\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*|\\\\[[0-9a-fA-F:]+\\\\])(:[0-9]+)?"

# Their rules are those of the object that has them: the API server prints the value that a rule is for, and an address
# of a registry may have been given a login.
ImageTag = Annotated[str, Field(max_length=512)]
RegistryHost = Annotated[str, Field(max_length=253)]
Repository = Annotated[str, Field(min_length=1, max_length=512)]


def tag_rules(field: str) -> list[Json]:
    """The rules for a field with a list of ImageTag."""
    spaces, address, digest = "one.contains(' ')", "one.contains('://')", "one.matches('@[a-z0-9]+:[0-9a-f]+$')"
    form = f"^({_HOST}/)?{_PATH}(/{_PATH})*(:[A-Za-z0-9_][-A-Za-z0-9_.]{{0,127}})?$"
    return [
        rule(f"!has(self.{field}) || self.{field}.all(one, {expression})", f"has a value in {field} {message}")
        for expression, message in (
            (f"!{spaces}", "with spaces: write one image per line, such as registry.example.com/team/app:1.0"),
            (
                f"!{address}",
                "that is an address: write registry.example.com/team/app:1.0, without https:// and without a login",
            ),
            (f"!{digest}", "with a digest: write name:tag, the digest is what the build finds out"),
            (
                f"{spaces} || {address} || {digest} || one.matches('{form}')",
                "that is not an image reference: write it as registry.example.com/team/app:1.0, in lower case",
            ),
        )
    ]


def host_rules(field: str) -> list[Json]:
    """The rule for a field with a RegistryHost."""
    return [
        rule(
            f"!has(self.{field}) || self.{field}.matches('^{_HOST}$')",
            f"has a {field} that is not a registry: write its host and port, such as registry.example.com",
        )
    ]


def repository_rules(*fields: str, lists: Iterable[str] = ()) -> list[Json]:
    """The rules for fields with a Repository."""
    form = "{0}.matches('^[^ /@][^ @]*(@sha256:[0-9a-f]{{64}})?$') && !{0}.contains('://')"
    say = "that is not a name in a registry: write it as registry.example.com/team/app, without https:// and without a login"
    one = [
        rule(f"!has(self.{field}) || ({form.format(f'self.{field}')})", f"has a value of {field} {say}")
        for field in fields
    ]
    return one + [
        rule(f"!has(self.{field}) || self.{field}.all(one, {form.format('one')})", f"has a value in {field} {say}")
        for field in lists
    ]


class LocalReference(Model):
    """A reference to an object in the same namespace."""

    name: ObjectName = Field(description="Name of an object in the same namespace.")


class KeyReference(Model):
    """A reference to one key of an object in the same namespace."""

    name: ObjectName = Field(description="Name of an object in the same namespace.")
    key: Key = Field(description="Key in the object's data.")
