"""Pushes an image to all its destinations, also one that an archive or a layout holds (``imagewright push``).

Talks to registries through the given pusher; reads archives and layouts.
"""

from __future__ import annotations

import os

from imagewright.engine.events import Reporter, Transfer
from imagewright.engine.output.destinations import Destinations
from imagewright.errors import Reason, SourceError
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.platform import Platform
from imagewright.reference import Reference
from imagewright.registry.push import Pusher, PushImage, TagImmutable
from imagewright.registry.upload import BlobSource
from imagewright.store.archivereader import ArchiveImage
from imagewright.store.layoutreader import LayoutReader


def push_image(
    pusher: Pusher, image: PushImage, destinations: Destinations, blobs: BlobSource, reporter: Reporter
) -> tuple[Reference, ...]:
    """Push to every destination; those that now have the image.

    Raises:
        RegistryError: also for an immutable tag, unless such tags are ignored.
    """

    def progress(descriptor: Descriptor, done: int, finished: bool) -> None:
        reporter.transfer(Transfer("push", descriptor.digest.hex[:12], done, descriptor.size, finished))

    kept: tuple[Reference, ...] = ()
    try:
        pusher.push(image, destinations.references, blobs, progress)
    except TagImmutable as error:
        if not destinations.ignore_immutable_tags:
            raise
        kept = error.references
    for reference in destinations.references:
        if reference in kept:
            reporter.warning(f'did not push "{reference.familiar()}": the tag is immutable')
        else:
            reporter.message(f"pushed {reference.familiar()}@{image.manifest.digest}")
    return tuple(reference for reference in destinations.references if reference not in kept)


def open_stored_image(path: str, platform: Platform) -> tuple[PushImage, BlobSource]:
    """The only image of a docker-archive or an OCI image layout, and the source of its blobs.

    Raises:
        SourceError: reason ``FileNotFound``.
        ImagewrightError: reason ``LayerInvalid``, neither of the two, damaged, or with several images.
    """
    if os.path.isdir(path):
        reader = LayoutReader(path)
        manifest, _ = reader.find("", "", platform)
        with reader.open(manifest.config) as stream:
            return PushImage(manifest, stream.read(manifest.config.size)), reader
    if not os.path.isfile(path):
        raise SourceError(
            f'cannot find image "{path}"',
            reason=Reason.FILE_NOT_FOUND,
            hint="Name an archive or a layout, as --tar-path and --oci-layout-path write them.",
        )
    archive = ArchiveImage.read(path)
    return PushImage(archive.manifest, archive.config), archive
