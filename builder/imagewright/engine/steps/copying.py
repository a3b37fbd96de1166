"""Executes a COPY or ADD: finds its sources, fetches remote ones, and copies them.

Reads contexts, stages and images; writes into a stage's root file system.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field, replace

from imagewright.descent import temporary_directory
from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.engine.events import Reporter
from imagewright.engine.pull.extracting import ExtractedImages, ImageReads
from imagewright.engine.pull.images import Images
from imagewright.engine.pull.indexing import LayerIndexes
from imagewright.engine.source.remotes import Remotes
from imagewright.engine.steps.origins import OriginFiles, Origins
from imagewright.engine.workspace import Workspace
from imagewright.errors import ImagewrightError
from imagewright.fs.copy.contents import copied_contents
from imagewright.fs.copy.copier import CopyRequest, copy, copy_linked
from imagewright.fs.copy.filters import ParentsPattern
from imagewright.fs.copy.glob import escape
from imagewright.fs.copy.mode import ModeChange
from imagewright.fs.copy.selection import Selection
from imagewright.fs.layer.changes import Changes
from imagewright.fs.rootfs import users
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.rootfs.users import UserFiles
from imagewright.fs.targets.choice import Root, is_file
from imagewright.fs.targets.virtual import VirtualRoot
from imagewright.plan.model import BuildPlan
from imagewright.plan.origins import ContextOrigin, ImageBase, ImageOrigin
from imagewright.plan.remote import GitRemote, UrlSource
from imagewright.plan.steps import CopyStep, InlineFile
from imagewright.records import dataclass


@dataclass(frozen=True, slots=True)
class CopyExecutor:
    """Executes the COPYs and ADDs of a build. ``folder`` is for what is fetched.

    ``mtime_limit_ns``: the latest modification time that layers have.
    """

    origins: Origins
    remotes: Remotes
    reporter: Reporter
    folder: str
    mtime_limit_ns: int | None = None

    @contextmanager
    def prepared(self, step: CopyStep) -> Iterator[Copying]:
        """A COPY or ADD whose sources can be hashed and copied, until what was fetched for it is removed."""
        with temporary_directory("copy-", self.folder) as scratch:
            copying = Copying(self, step, scratch)
            try:
                yield copying
            finally:
                copying.close()


@dataclass(slots=True)
class Copying:
    """One COPY or ADD. Its sources are gathered when they are first needed: a cached step may never need them."""

    executor: CopyExecutor
    step: CopyStep
    scratch: str  # a folder for remote sources and heredocs
    _requests: list[CopyRequest] | None = field(default=None)
    _folders: list[Rootfs] = field(default_factory=list)  # below ``scratch``

    def contents(self) -> list[str]:
        """Hashes of the copied files, one for each group of sources.

        Raises:
            FileSystemError: a missing source.
            SourceError: a URL or a repository that cannot be fetched.
        """
        return [copied_contents(request) for request in self._gathered()]

    def copy_into(self, rootfs: Rootfs) -> Changes:
        """Copy to a root on disk; the changes that it made.

        Raises:
            FileSystemError: also for a destination that cannot be written.
            SourceError: as ``contents``.
        """
        requests = self._owned(rootfs)
        if self.step.options.link:
            staged = os.path.join(self.scratch, "linked")
            os.mkdir(staged, 0o755)
            changes = copy_linked(rootfs, Rootfs(staged, inodes=rootfs.inodes), requests)
        else:
            changes = copy(rootfs, *requests, mtime_limit_ns=self.executor.mtime_limit_ns)
        self._warn_about_file(rootfs)
        return changes

    def copy_virtually(self, files: Callable[[], VirtualRoot]) -> tuple[VirtualRoot, Changes]:
        """Copy to a virtual root: that of the stage, which ``files`` makes, or with --link an empty one.

        Raises:
            NotVirtualError: it has to be done on disk.
            FileSystemError, SourceError: as ``copy_into``.
        """
        requests = self._owned(_Lazily(files))
        root = VirtualRoot() if self.step.options.link else files()
        changes = copy(root, *requests, mtime_limit_ns=self.executor.mtime_limit_ns)
        self._warn_about_file(root)
        return root, changes

    def close(self) -> None:
        """Close what was gathered. A virtual root still refers to it, to see that it is gone."""
        for folder in self._folders:
            folder.close()

    def _folder(self, path: str) -> Rootfs:
        self._folders.append(Rootfs(path))
        return self._folders[-1]

    def _owned(self, root: UserFiles) -> list[CopyRequest]:
        chown = self.step.options.chown
        owner = users.lookup_ownership(root, chown) if chown else None
        return [replace(request, ownership=owner) for request in self._gathered()]

    def _warn_about_file(self, root: Root) -> None:
        """Warn if only one of several sources exists: the destination is then a file, not a folder."""
        step = self.step
        if len(step.sources) + len(step.files) < 2 or step.destination.endswith("/"):
            return
        if is_file(root, os.fsencode(step.destination)):  # else nothing was copied
            destination = step.text.substitutions.as_written(step.destination)
            self.executor.reporter.warning(
                f'{step.location}: only one of the sources exists, so "{destination}" is a file; '
                f'write "{destination}/" to copy into a folder in any case'
            )

    def _gathered(self) -> list[CopyRequest]:
        if self._requests is None:
            self._requests = list(self._make_requests())
        return self._requests

    def _make_requests(self) -> Iterator[CopyRequest]:
        """One for each sequence of paths, one for each remote source, one for all heredocs, in the order written."""
        step, scratch = self.step, self.scratch
        extracts = step.extract or any(isinstance(each, UrlSource) and each.unpack for each in step.sources)
        files = self.executor.origins.files(step.origin)
        request = CopyRequest(
            source=files.rootfs,
            spool=self._folder(_made(scratch, "archives")) if extracts else None,
            patterns=(),
            destination=step.destination,
            mode=ModeChange.parse(step.options.chmod) if step.options.chmod else None,
            extract=step.extract,
            ignore=files.ignore,
            preserve_owner=not isinstance(step.origin, ContextOrigin),
            exclude=_exclude(step),
        )
        separate = replace(request, ignore=None, preserve_owner=False, extract=False)
        remotes = self.executor.remotes.rewording(step.text.substitutions.as_written)
        number = 0
        for is_path, group in itertools.groupby(step.sources, lambda each: isinstance(each, str)):
            if is_path:
                paths = tuple(each for each in group if isinstance(each, str))
                yield replace(request, patterns=paths, only=_only(step, paths))
                continue
            for remote in group:
                number += 1
                folder = _made(scratch, f"remote-{number}")
                if isinstance(remote, UrlSource):
                    remotes.file(remote, folder)
                    yield replace(
                        separate, source=self._folder(folder), patterns=(escape(remote.name),), extract=remote.unpack
                    )
                elif isinstance(remote, GitRemote):
                    yield replace(separate, source=self._folder(remotes.checkout(remote, folder).path), patterns=(".",))
        if step.files:
            inline = self._folder(_written(step.files, _made(scratch, "inline")))
            names = tuple(escape(file.name) for file in step.files)
            yield replace(separate, source=inline, patterns=names, exclude=None)


@dataclass(frozen=True, slots=True)
class _Lazily:
    """The users of a root that is made when they are first looked up."""

    files: Callable[[], VirtualRoot]

    def read_file(self, path: bytes, limit: int) -> bytes:
        return self.files().read_file(path, limit)


def _made(above: str, name: str) -> str:
    folder = os.path.join(above, name)
    os.mkdir(folder, 0o755)
    return folder


def _written(files: Sequence[InlineFile], folder: str) -> str:
    for file in files:
        path = os.path.join(folder, file.name)
        with open(path, "wb") as out:
            out.write(file.content.encode("utf-8", "surrogateescape"))
        os.chmod(path, 0o644)
    return folder


def origins_of(
    plan: BuildPlan,
    contexts: Mapping[str, OriginFiles],
    images: Images,
    workspace: Workspace,
    indexes: LayerIndexes,
) -> Origins:
    """What the steps of a build read, before a stage is finished."""
    return Origins(contexts, images, workspace, indexes, ExtractedImages(images, indexes, workspace, _reads_of(plan)))


def _reads_of(plan: BuildPlan) -> ImageReads:
    """What a build reads of images."""
    bases = frozenset(stage.base.reference for stage in plan.stages if isinstance(stage.base, ImageBase))
    found: dict[ImageOrigin, list[Selection]] = {}
    for step in (step for stage in plan.stages for step in stage.steps):
        if not isinstance(step, CopyStep) or not isinstance(step.origin, ImageOrigin):
            continue
        selections = found.setdefault(step.origin, [])
        paths = tuple(each for each in step.sources if isinstance(each, str))
        with suppress(ImagewrightError):  # which the step will raise
            selections.append(Selection(paths, _exclude(step), _only(step, paths)))
    return ImageReads(found, bases)


def _exclude(step: CopyStep) -> IgnorePatterns | None:
    excludes = step.options.excludes
    return IgnorePatterns.parse("\n".join(excludes), "--exclude", comments=False) if excludes else None


def _only(step: CopyStep, paths: Sequence[str]) -> tuple[ParentsPattern, ...]:
    return tuple(_parents_pattern(path) for path in paths) if step.options.parents else ()


def _parents_pattern(source: str) -> ParentsPattern:
    base, pivot, pattern = source.partition("/./")
    if not pivot:
        base, pattern = "", source
    return ParentsPattern(base, pattern, IgnorePatterns.parse(pattern, "--parents", comments=False))
