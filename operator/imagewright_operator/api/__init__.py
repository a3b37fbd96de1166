"""The ImageBuild resource as pydantic models: ``imagewright.dev/v1alpha1``.

No I/O. ``schema`` generates the CustomResourceDefinition from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ConfigDict, Field

from imagewright_operator.api.base import (
    API_VERSION,
    GROUP,
    KIND,
    MAX_NAME,
    PLURAL,
    REQUESTED_AT_ANNOTATION,
    VERSION,
    Model,
    rule,
    rules,
)
from imagewright_operator.api.spec import Spec
from imagewright_operator.api.status import Status


class Metadata(Model):
    """The part of an object's metadata that the operator reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    deletion_timestamp: str | None = None
    annotations: dict[str, str] = {}


class ImageBuild(Model):
    """A container image to build and push."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.spec)",
                "has no spec: write what to build below spec.source and where to push below spec.output",
            ),
            rule(
                f"self.metadata.name.size() <= {MAX_NAME}",
                f"the name is longer than {MAX_NAME} characters: Pods are named after it, choose a shorter one",
            ),
        )
    )

    metadata: Metadata
    spec: Spec
    status: Status = Field(default=Status())

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Parse the JSON of the API server.

        Raises:
            pydantic.ValidationError: this version cannot read the object.
        """
        return cls.model_validate(body)

    @property
    def requested_at(self) -> str:
        """The value of the annotation that requests another build of the same inputs."""
        return self.metadata.annotations.get(REQUESTED_AT_ANNOTATION, "")


__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "MAX_NAME",
    "PLURAL",
    "REQUESTED_AT_ANNOTATION",
    "VERSION",
    "ImageBuild",
    "Metadata",
    "Spec",
    "Status",
]
