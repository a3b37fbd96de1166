"""Where an image goes and in what form: read out of the request and checked before anything is pulled.

No I/O. Called by ``engine.build``; read by ``engine.output`` and ``engine.resultfiles``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imagewright.contract import COMPRESSION_LEVELS
from imagewright.contract.request import BuildRequest, ImageSettings
from imagewright.errors import UsageError
from imagewright.oci.mediatypes import ImageFormat
from imagewright.reference import Reference

_FORMATS = {"": None, "oci": ImageFormat.OCI, "docker": ImageFormat.DOCKER}


@dataclass(frozen=True, slots=True)
class Destinations:
    """``image_format`` None is the base image's. The last three are files that say what the image is called."""

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


def read_destinations(request: BuildRequest) -> Destinations:
    """What a request says of where its image goes.

    Raises:
        UsageError: no destination where one is needed, one with a digest; options that contradict each other.
    """
    output, image = request.output, request.image
    references = tuple(Reference.parse(text) for text in output.destinations)
    for reference in references:
        if reference.digest is not None:
            raise UsageError(
                f"{reference.familiar()}: a destination can't have a digest, since that is what the build finds out",
                hint="Give it a tag.",
            )
    if output.push and not references:
        raise UsageError(
            "there is no destination to push to", hint="Name one with --destination, or build with --no-push."
        )
    if (output.image_name_with_digest_file or output.image_name_tag_with_digest_file) and not references:
        raise UsageError("a file is to say the image's name, and it has none", hint="Name one with --destination.")
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
            "--image-format=docker and --compression=zstd contradict each other: Docker's media types have no zstd",
            hint="Leave one of them out; --image-format=oci has zstd.",
        )
    if image.format == "docker" and image.annotations:
        raise UsageError(
            "--image-format=docker and --annotation contradict each other: Docker's manifests have no annotations",
            hint="Use --label, or --image-format=oci.",
        )
    level, levels = image.compression_level, COMPRESSION_LEVELS[image.compression]
    if level is not None and level not in levels:
        raise UsageError(
            f"--compression-level={level}: {image.compression} has levels {levels[0]} to {levels[-1]}",
            hint="Leave it out: the engine's own choice is fast and small.",
        )
