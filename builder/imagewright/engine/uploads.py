"""Layers of the image that is being built, on their way to its destinations while later steps run.

Uploads through the given registries, in the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from imagewright.engine.events import Reporter, Transfer, timed
from imagewright.engine.layers import Layer
from imagewright.engine.pull.images import Images
from imagewright.oci.descriptor import Descriptor
from imagewright.plan.model import BuildPlan
from imagewright.plan.origins import ImageBase
from imagewright.reference import Reference
from imagewright.registry.early import EarlyUploads
from imagewright.registry.push import Pusher


class LayerUploads:
    """Uploads of the layers that are offered. May be used from several threads."""

    def __init__(self, early: EarlyUploads, images: Images, reporter: Reporter) -> None:
        self.early = early
        self._images = images
        self._reporter = reporter

    def begin(self, plan: BuildPlan) -> None:
        """Look for the layers of the base image that the target has, and mount them where that is possible."""
        for index in plan.ancestry:
            base = plan.stage(index).base
            if isinstance(base, ImageBase):
                self.offer(self._images.layers(self._images.resolve(base.reference, base.platform)))

    def offer(self, layers: Sequence[Layer], cached_at: Reference | None = None) -> None:
        """Upload layers that this build has made or pulled; mount the others if possible.

        ``cached_at`` is where the layer cache stores them, too: its registry mounts them from there in the end.
        """
        besides = cached_at.registry if cached_at is not None else ""
        for layer in layers:
            found_at = layer.origin.found_at if layer.origin is not None else None
            if self._images.blobs.has(layer.descriptor.digest):
                opener = partial(self._images.open_layer, layer)
                self.early.send(layer.descriptor, opener, self._progress, found_at, besides)
            else:
                self.early.look(layer.descriptor, found_at)

    def lack(self, layer: Layer) -> bool:
        """Whether a destination is known to lack a layer, so that it will have to be sent; may wait for its answer."""
        return self.early.lacks(layer.descriptor.digest)

    def close(self) -> None:
        """End everything, where a server lets it."""
        self.early.close()

    def _progress(self, descriptor: Descriptor, done: int, finished: bool) -> None:
        self._reporter.transfer(Transfer("push", descriptor.digest.hex[:12], done, descriptor.size, finished))


def open_uploads(pusher: Pusher, destinations: Sequence[Reference], images: Images, reporter: Reporter) -> LayerUploads:
    """Make sure that every destination can be pushed to; then uploads may begin.

    Raises:
        RegistryError: what a push would raise for lack of rights.
    """
    for reference in destinations:
        with timed(reporter, "check push", reference.familiar()):
            pusher.check_push(reference)
    return LayerUploads(pusher.begin(destinations, reporter.debug), images, reporter)
