"""Where an image goes and in what format, read from the request and checked before anything is pulled.

No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace

from imagewright.contract import COMPRESSION_LEVELS
from imagewright.contract.request import BuildRequest, ImageSettings
from imagewright.errors import UsageError
from imagewright.oci.mediatypes import ImageFormat
from imagewright.records import dataclass
from imagewright.reference import Reference

_FORMATS = {"": None, "oci": ImageFormat.OCI, "docker": ImageFormat.DOCKER}


@dataclass(frozen=True, slots=True)
class Destinations:
    """``image_format`` None is the base image's. The last three are files for the image's digest and names."""

    references: tuple[Reference, ...] = ()
    push: bool = True
    ignore_immutable_tags: bool = False
    image_format: ImageFormat | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    oci_layout_path: str = ""
    tar_path: str = ""
    digest_file: str = ""
    name_with_digest_file: str = ""
    name_tag_with_digest_file: str = ""

    def moved(self, where: Callable[[str], str]) -> Destinations:
        """The same with other paths; ``where`` says which."""
        return replace(
            self,
            oci_layout_path=where(self.oci_layout_path),
            tar_path=where(self.tar_path),
            digest_file=where(self.digest_file),
            name_with_digest_file=where(self.name_with_digest_file),
            name_tag_with_digest_file=where(self.name_tag_with_digest_file),
        )


def read_destinations(request: BuildRequest) -> Destinations:
    """The destinations of a request's image.

    Raises:
        UsageError: a missing destination, one with a digest; conflicting options.
    """
    output, image = request.output, request.image
    references = tuple(Reference.parse(text) for text in output.destinations)
    for reference in references:
        if reference.digest is not None:
            raise UsageError(
                f'invalid destination "{reference.familiar()}": a destination cannot have a digest',
                hint="Use a tag.",
            )
    if output.push and not references:
        raise UsageError("no destination to push to", hint="Name one with --destination, or build with --no-push.")
    if (output.image_name_with_digest_file or output.image_name_tag_with_digest_file) and not references:
        raise UsageError(
            "cannot write a file with the image's name: no destination", hint="Name one with --destination."
        )
    _check_form(image)
    return Destinations(
        references,
        output.push,
        output.ignore_immutable_tags,
        _FORMATS[image.format],
        image.annotations,
        output.oci_layout_path,
        output.tar_path,
        output.digest_file,
        output.image_name_with_digest_file,
        output.image_name_tag_with_digest_file,
    )


def _check_form(image: ImageSettings) -> None:
    if image.format == "docker" and image.compression == "zstd":
        raise UsageError(
            "cannot combine --image-format=docker with --compression=zstd: Docker's format has no zstd layers",
            hint="Use --image-format=oci (ImageBuild: spec.output.format), or remove one of the two.",
        )
    if image.format == "docker" and image.annotations:
        raise UsageError(
            "cannot combine --image-format=docker with --annotation: Docker's manifests have no annotations",
            hint="Use --label (ImageBuild: spec.output.labels), or --image-format=oci (ImageBuild: spec.output.format).",
        )
    level, levels = image.compression_level, COMPRESSION_LEVELS[image.compression]
    if level is not None and level not in levels:
        raise UsageError(
            f"--compression-level={level}: {image.compression} has levels {levels[0]} to {levels[-1]}",
            hint="Remove it to use the default, which is fast and small.",
        )
