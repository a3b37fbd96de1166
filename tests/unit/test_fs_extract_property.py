"""A part of an image is as good as the whole: COPY --from and mounts read the same from both, and fail alike."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from archives.tars import FIFO, HARDLINK, Item, directory, hardlink, make_tar, symlink
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imagewright.digest import Digest
from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.errors import ImagewrightError
from imagewright.fs.copy.contents import copied_contents
from imagewright.fs.copy.copier import CopyRequest, copy
from imagewright.fs.copy.filters import ParentsPattern
from imagewright.fs.copy.glob import escape
from imagewright.fs.copy.guess import Guess
from imagewright.fs.copy.selection import Selection
from imagewright.fs.layer.capture import Capture
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.layer.extract import Extraction, WrongIndexError
from imagewright.fs.layer.index import apply_index, make_index
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.rootfs.inodes import ON_DISK, RecordedInodes
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.reader import TarReader
from imagewright.fs.targets.model import NotVirtualError
from imagewright.fs.targets.part import Part
from imagewright.fs.targets.virtual import VirtualRoot

NOW = PackOptions("none", clamp_mtime_s=1_500_000_000)  # directories without an entry have the present time
TIME = 1_000_000_000
PATHS = st.lists(st.sampled_from(["a", "b", "c", "é"]), min_size=1, max_size=4).map("/".join)
TARGETS = st.one_of(PATHS, PATHS, st.sampled_from(["/a", "/a/b", "..", "../b", ".", "a/..", "/", "../../b/c", "x"]))
MODES = st.sampled_from([0o600, 0o4755])
FILES = st.builds(
    lambda name, data, mode, owner, pax: Item(name, data=data, mode=mode, uid=owner, mtime=TIME, pax=pax),
    PATHS,
    st.sampled_from([b"", b"1", b"22", b"3" * 3000]),
    MODES,
    st.sampled_from([0, 7]),
    st.sampled_from([{}, {"SCHILY.xattr.user.a": "b"}]),
)
WHITEOUTS = st.builds(
    lambda name, opaque: Item(
        f"{name}/.wh..wh..opq" if opaque else "/".join((*name.split("/")[:-1], ".wh." + name.split("/")[-1]))
    ),
    PATHS,
    st.booleans(),
)
ITEMS = st.one_of(
    FILES,
    FILES,
    st.builds(lambda name, mode: directory(name, mode, mtime=TIME), PATHS, st.sampled_from([0o755, 0o2700])),
    st.builds(symlink, PATHS, TARGETS),
    st.builds(symlink, PATHS, TARGETS),
    st.builds(hardlink, PATHS, PATHS),
    st.builds(lambda name: Item(name, FIFO, mtime=TIME), PATHS),
    WHITEOUTS,
)
LAYERS = st.lists(st.lists(ITEMS, max_size=9), min_size=1, max_size=3)
PATTERNS = st.one_of(
    PATHS,
    PATHS,
    st.sampled_from(
        ["*", "a/*", "*/b", "*/*/c", "[ab]", "b/[", "/a/./b", "b/../a", "a/./b", "**/c", ".", "/a/./../b/c"]
    ),
)
EXCLUDES = st.sampled_from(["", "", "a", "**/b", "*/c", "*\n!a", "**\n!**/c"])
COPIES = st.tuples(st.lists(PATTERNS, min_size=1, max_size=2), EXCLUDES, st.booleans()).filter(
    lambda copy: not (copy[2] and "b/[" in copy[0])  # --parents refuses it before it reads anything
)
MOUNTS = st.one_of(PATHS, st.sampled_from(["b/..", "a/", "/b", "/"]))
Copy = tuple[list[str], str, bool]


def _selection(patterns: list[str], excludes: str, parents: bool) -> Selection:
    exclude = IgnorePatterns.parse(excludes, "--exclude", comments=False) if excludes else None
    only = tuple(_parents(pattern) for pattern in patterns) if parents else ()
    return Selection(tuple(patterns), exclude, only)


def _parents(source: str) -> ParentsPattern:
    base, pivot, pattern = source.partition("/./")
    base, pattern = (base, pattern) if pivot else ("", source)
    return ParentsPattern(base, pattern, IgnorePatterns.parse(pattern, "--parents", comments=False))


def _outcome(action: Callable[[], object]) -> object:
    try:
        return action()
    except (ImagewrightError, OSError) as error:
        return f"{type(error).__name__} {error}"


def _copied(source: Rootfs, selection: Selection, scratch: str) -> tuple[object, object]:
    """The hash of what a COPY reads, and the layer that it makes."""
    target = Rootfs(tempfile.mkdtemp(dir=scratch), inodes=source.inodes)
    request = CopyRequest(
        source,
        selection.patterns,
        "/to/",
        exclude=selection.exclude,
        only=selection.only,
        preserve_owner=True,
    )

    def packed() -> bytes:
        out = io.BytesIO()
        pack_layer(target, copy(target, request), out, NOW)
        return out.getvalue()

    return _outcome(lambda: copied_contents(request)), _outcome(packed)


def _mounted(source: Rootfs, path: str) -> object:
    """Where a mount is, and the hash of what it shows; links count, as a RUN sees them."""

    def seen() -> object:
        real = source.realpath(os.fsencode(path.lstrip("/")))
        pattern = escape(os.fsdecode(real)) or "."
        return real, copied_contents(CopyRequest(source, (pattern,), "/", preserve_owner=True))

    return _outcome(seen)


def _sensible(items: list[Item], names: set[str]) -> list[Item]:
    """Without most of the hard links that would be refused: those to what was never there, of all ``names`` so far."""
    kept = []
    for item in items:
        if item.type != HARDLINK or item.link in names:
            kept.append(item)
            names.add(item.name)
    return kept


def _unpack(tars: list[bytes], rootfs: Rootfs) -> None:
    for tar in tars:
        unpack_layer(rootfs, io.BytesIO(tar))


def _extract(tars: list[bytes], selections: list[Selection], rootfs: Rootfs, scratch: Rootfs | None) -> None:
    """As the engine does, taking data of files while layers are indexed if there is a folder for them."""
    root, guess = VirtualRoot(), Guess(selections)
    captures: dict[Digest, Capture | None] = {}
    for tar in tars:
        layer = Digest.of(tar)
        captures[layer] = Capture(scratch, guess.may_be_read, f"{len(captures)}") if scratch is not None else None
        apply_index(root, make_index(io.BytesIO(tar), layer, capture=captures[layer]), layer)
    part = Part(root)
    for selection in selections:
        selection.add_to(part)
    part.add_other_names()
    with closing(Extraction(part, rootfs)) as extraction:
        extraction.write_entries()
        for tar in tars:
            layer = Digest.of(tar)
            if (capture := captures[layer]) is not None:
                extraction.adopt(layer, capture.files)
            if extraction.needs(layer):
                extraction.write_data(layer, TarReader(io.BytesIO(tar)))
        extraction.finish()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(LAYERS, st.lists(COPIES, min_size=1, max_size=2), MOUNTS, st.booleans())
@example(  # by links, to the second name of a file whose first one is gone
    [
        [Item("a/b", data=b"1", mtime=TIME), hardlink("c/b", "a/b"), symlink("b", "c")],
        [Item("a/.wh.b"), symlink("é", "b/b")],
    ],
    [(["é"], "", False)],
    "b/b",
    True,
)
@example(  # one of two names of a file, and a link to it from another layer
    [[Item("a/b", data=b"1", mtime=TIME), hardlink("c/b", "a/b")], [symlink("b", "c")]],
    [(["b/b"], "", False)],
    "é",
    False,
)
@example(  # a folder that --parents looks up, beside what it copies
    [[Item("a/b/c", data=b"1", mtime=TIME), Item("b/c", data=b"2", mtime=TIME)]],
    [(["/a/./../b/c"], "", True)],
    "é",
    True,
)
@example(  # a layer that is there twice, and a link to its file from between
    [
        [Item("a", data=b"1", mtime=TIME)],
        [hardlink("b", "a")],
        [Item("a", data=b"1", mtime=TIME)],
    ],
    [(["a", "b"], "", False)],
    "é",
    True,
)
@example(  # the first entries of two layers
    [[Item("a", data=b"1", mtime=TIME)], [Item("b", data=b"2", mtime=TIME)]],
    [(["a", "b"], "", False)],
    "é",
    True,
)
@example(  # folders that are hidden, with what is shown below and without
    [[Item("a/b/c", data=b"1", mtime=TIME), directory("a/c", mtime=TIME), Item("a/é/b", data=b"2", mtime=TIME)]],
    [(["a"], "**\n!**/c", False)],
    "é",
    True,
)
@example(  # links and special files with two names, and all names of a folder's files in another one
    [[Item("a/a", FIFO, mtime=TIME), hardlink("b/a", "a/a"), symlink("a/b", "x"), hardlink("b/b", "a/b")]],
    [(["*"], "", False)],
    "é",
    False,
)
def test_part_of_an_image_reads_as_the_whole(
    layers: list[list[Item]], copies: list[Copy], mount: str, guessing: bool
) -> None:
    inodes = RecordedInodes() if os.geteuid() else ON_DISK
    with tempfile.TemporaryDirectory() as here:
        roots = []
        for name in ("whole", "part", "captured"):
            Path(here, name).mkdir(mode=0o755)
            roots.append(Rootfs(os.path.join(here, name), inodes=inodes))
        whole, part, scratch = roots
        names: set[str] = set()
        tars = [make_tar(*_sensible(items, names)) for items in layers]
        selections = [_selection(*each) for each in copies]
        refused = _outcome(lambda: _unpack(tars, whole))
        try:
            extracted = _outcome(
                lambda: _extract(tars, [*selections, Selection(path=mount)], part, scratch if guessing else None)
            )
        except NotVirtualError:
            return  # the engine unpacks it whole
        assert extracted == refused
        if refused:
            return
        for selection in selections:
            assert _copied(part, selection, here) == _copied(whole, selection, here)
        assert _mounted(part, mount) == _mounted(whole, mount)


def test_an_index_of_another_layer_is_noticed(tmp_path: Path) -> None:
    """One from a cache may lie: then the image is unpacked whole."""
    said, found = (make_tar(Item("a", data=data, mtime=TIME)) for data in (b"1", b"22"))
    layer = Digest.of(said)
    root = VirtualRoot()
    apply_index(root, make_index(io.BytesIO(said), layer), layer)
    part = Part(root)
    Selection(("a",)).add_to(part)
    for name, tar in (("another", found), ("none", make_tar())):
        folder = tmp_path / name
        folder.mkdir()
        with closing(Extraction(part, Rootfs(str(folder)))) as extraction:
            extraction.write_entries()
            with pytest.raises(WrongIndexError):
                extraction.write_data(layer, TarReader(io.BytesIO(tar)))


def test_files_that_an_index_has_are_read_from_the_layer(tmp_path: Path) -> None:
    """What it says of /etc/passwd has the size and the attributes of the true one."""
    said, true = (make_tar(Item("etc/passwd", data=data, mtime=TIME)) for data in (b"evil:x:0\n", b"root:x:0\n"))
    layer = Digest.of(true)
    root = VirtualRoot()
    apply_index(root, make_index(io.BytesIO(said), layer), layer)
    assert root.read_file(b"/etc/passwd", 1 << 20) == b"evil:x:0\n"
    part = Part(root)
    Selection(("etc",)).add_to(part)
    with closing(Extraction(part, Rootfs(str(tmp_path)))) as extraction:
        extraction.write_entries()
        assert extraction.needs(layer)
        extraction.write_data(layer, TarReader(io.BytesIO(true)))
    assert (tmp_path / "etc/passwd").read_bytes() == b"root:x:0\n"
