"""Images of COPY --from and RUN --mount, of which only what is asked for is unpacked.

Streams layers from the registry or reads them from the blob store, and writes below the work folder.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import field

from imagewright.descent import temporary_directory
from imagewright.digest import Digest
from imagewright.engine.events import timed
from imagewright.engine.layers import Layer
from imagewright.engine.pull.images import Images, warn_of_skipped
from imagewright.engine.pull.indexing import LayerIndexes, Reading, VirtualFiles, inflated
from imagewright.engine.workspace import Workspace
from imagewright.fs.copy.guess import Guess
from imagewright.fs.copy.selection import Selection
from imagewright.fs.layer.capture import Capture, Captured
from imagewright.fs.layer.extract import Extraction, WrongIndexError
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.reader import TarReader, read_rest
from imagewright.fs.targets.model import NotVirtualError
from imagewright.fs.targets.part import Part
from imagewright.plan.origins import ImageOrigin
from imagewright.records import dataclass
from imagewright.reference import Reference


@dataclass(frozen=True, slots=True)
class ImageReads:
    """What a build reads of images.

    ``copied`` is by COPYs, of each image one part, so that layers are read once for all. ``bases`` are images that
    stages start from, too: their layers stay in the blob store.
    """

    copied: Mapping[ImageOrigin, Sequence[Selection]]
    bases: frozenset[Reference]


class ExtractedImages:
    """Parts of images as folders, each made once. May be used from several threads.

    Layers are indexed first, several at once, and the data of files that are guessed to be of the part are taken on the
    way. Layers are read again for what was not guessed. Where the index of a layer is known already, the layer is only
    read if it has files of the part.
    """

    def __init__(self, images: Images, indexes: LayerIndexes, workspace: Workspace, reads: ImageReads) -> None:
        self._images = images
        self._indexes = indexes
        self._workspace = workspace
        self._reads = reads
        self._parts: dict[tuple[Digest, str | None], Rootfs] = {}

    def copied(self, origin: ImageOrigin) -> Rootfs:
        """A root with at least what COPYs read of an image.

        Raises:
            ImagewrightError: the image cannot be pulled, or unpacked.
        """
        digest = self._digest(origin)
        named = [selections for other, selections in self._reads.copied.items() if self._digest(other) == digest]
        return self._part(origin, None, list(itertools.chain(*named)))

    def mounted(self, origin: ImageOrigin, path: str) -> Rootfs:
        """As ``copied``, with what is at ``path``."""
        return self._part(origin, path, [Selection(path=path)])

    def _digest(self, origin: ImageOrigin) -> Digest:
        return self._images.resolve(origin.reference, origin.platform).manifest.digest

    def _part(self, origin: ImageOrigin, path: str | None, selections: Sequence[Selection]) -> Rootfs:
        digest = self._digest(origin)
        with self._images.exclusive({digest}):
            if (rootfs := self._parts.get((digest, path))) is not None:
                return rootfs
            if not any(selection.is_whole for selection in selections):
                folder = self._workspace.image(f"{digest.hex}-{len(self._parts)}")
                if (rootfs := self._extracted(origin, selections, folder)) is not None:
                    self._parts[digest, path] = rootfs
                    return rootfs
        return self._parts.setdefault((digest, path), self._whole(origin))

    def _whole(self, origin: ImageOrigin) -> Rootfs:
        return self._images.rootfs_of(origin.reference, origin.platform, self._indexes.keep)

    def _extracted(self, origin: ImageOrigin, selections: Sequence[Selection], rootfs: Rootfs) -> Rootfs | None:
        """``rootfs`` with what the selections read; None if the image has to be unpacked for it."""
        tree.remove(rootfs)  # the build may have started over
        layers = self._images.layers(self._images.resolve(origin.reference, origin.platform))
        try:
            with temporary_directory("captured-", self._workspace.path) as folder:
                taken = _Taken(Guess(selections), Rootfs(folder, inodes=rootfs.inodes))
                files = VirtualFiles(self._indexes, Reading(origin.reference in self._reads.bases, taken.capture))
                files.update(layers)
                part = Part(files.root)
                for selection in selections:
                    selection.add_to(part)
                part.add_other_names()
                with closing(Extraction(part, rootfs)) as extraction:
                    self._write(extraction, layers, taken, files)
        except NotVirtualError:
            tree.remove(rootfs)
            return None
        warn_of_skipped(extraction.skipped_devices, origin.reference.familiar(), self._images.reporter)
        return rootfs

    def _write(self, extraction: Extraction, layers: Sequence[Layer], taken: _Taken, files: VirtualFiles) -> None:
        extraction.write_entries()
        for layer in layers:
            extraction.adopt(layer.diff_id, taken.of(layer))
            if not extraction.needs(layer.diff_id):
                continue
            with (
                inflated(layer, self._images.open_layer, self._images) as tar,
                timed(self._images.reporter, "unpack", layer.name),
            ):
                try:
                    extraction.write_data(layer.diff_id, TarReader(tar))
                except WrongIndexError as error:
                    if not files.invalidate(layer, error):
                        raise
                    raise NotVirtualError from error
                read_rest(tar, "the layer")  # verified at its end: nothing has used the data until then
        extraction.finish()


@dataclass(slots=True)
class _Taken:
    """Data of files that were taken while layers were indexed, in ``folder``."""

    guess: Guess
    folder: Rootfs
    captures: dict[Digest, Capture] = field(default_factory=dict)  # by diff ID

    def capture(self, layer: Layer) -> Capture:
        made = self.captures[layer.diff_id] = Capture(self.folder, self.guess.may_be_read, layer.diff_id.hex)
        return made

    def of(self, layer: Layer) -> Mapping[int, Captured]:
        capture = self.captures.get(layer.diff_id)
        return capture.files if capture is not None else {}
