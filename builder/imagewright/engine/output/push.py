"""Pushes an image to all its destinations, and one that a file holds: ``imagewright push``.

Talks to registries through the client it is given; reads an archive or a layout. Called by ``engine.output`` and ``cli.pushcommand``.
"""

from __future__ import annotations

import os

from imagewright.engine.events import Reporter, Transfer
from imagewright.engine.output.destinations import Destinations
from imagewright.errors import Reason, SourceError
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.platform import Platform
from imagewright.reference import Reference
from imagewright.registry.client import BlobSource, PushImage, RegistryClient, TagImmutable
from imagewright.store.archivereader import ArchiveImage
from imagewright.store.layoutreader import LayoutReader


def push_image(
    client: RegistryClient, image: PushImage, destinations: Destinations, blobs: BlobSource, reporter: Reporter
) -> tuple[Reference, ...]:
    """Push to every destination; those that have the image now.

    Raises:
        RegistryError: also for a tag that the registry won't move, where that is not to be taken for success.
    """

    def progress(descriptor: Descriptor, done: int, finished: bool) -> None:
        reporter.transfer(Transfer("push", descriptor.digest.hex[:12], done, descriptor.size, finished))

    kept: tuple[Reference, ...] = ()
    try:
        client.push(image, destinations.references, blobs, progress)
    except TagImmutable as error:
        if not destinations.ignore_immutable_tags:
            raise
        kept = error.references
    for reference in destinations.references:
        if reference in kept:
            reporter.warning(f"{reference.familiar()} stays what it was: the registry doesn't let the tag be moved")
        else:
            reporter.message(f"pushed {reference.familiar()}@{image.manifest.digest}")
    return tuple(reference for reference in destinations.references if reference not in kept)


def open_stored_image(path: str, platform: Platform) -> tuple[PushImage, BlobSource]:
    """The only image of a docker-archive or of an OCI image layout, and where its blobs are read.

    Raises:
        SourceError: reason ``FileNotFound``, there is nothing.
        ImagewrightError: reason ``LayerInvalid``: it is neither, is damaged, or holds several images.
    """
    if os.path.isdir(path):
        reader = LayoutReader(path)
        manifest, _ = reader.find("", "", platform)
        with reader.open(manifest.config) as stream:
            return PushImage(manifest, stream.read(manifest.config.size)), reader
    if not os.path.isfile(path):
        raise SourceError(
            f"there is no image at {path}",
            reason=Reason.FILE_NOT_FOUND,
            hint="Name what --tar-path or --oci-layout-path of a build made.",
        )
    archive = ArchiveImage.read(path)
    return PushImage(archive.manifest, archive.config), archive
