"""Files with only a new ctime are recognized as unmodified by comparing them with lower layers."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagewright.fs.layer.changes import Changes, diff
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.snapshot import scan
from imagewright.fs.layer.unmodified import StoredLayer, drop_unmodified
from imagewright.fs.rootfs.root import Rootfs
from imagewright.streams import Readable


class Stack:
    """A tree and the layers it was packed into."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rootfs = Rootfs(str(path))
        self.layers: list[bytes] = []

    def step(self, action: Callable[[Path], object]) -> Changes:
        """Run an action and pack its changes; returns the changes without unmodified files."""
        before = scan(self.rootfs)
        wait_for_tick()
        action(self.path)
        changes = drop_unmodified(self.rootfs, diff(before, scan(self.rootfs)), self.stored())
        out = io.BytesIO()
        pack_layer(self.rootfs, changes, out, PackOptions("none"))
        self.layers.append(out.getvalue())
        return changes

    def stored(self) -> Sequence[StoredLayer]:
        return [StoredLayer(len(layer), lambda layer=layer: opened(layer)) for layer in reversed(self.layers)]  # type: ignore[misc]


@contextmanager
def opened(layer: bytes) -> Iterator[Readable]:
    yield io.BytesIO(layer)


def wait_for_tick() -> None:
    begin = time.clock_gettime_ns(5)
    while time.clock_gettime_ns(5) == begin:
        time.sleep(0.001)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    made = Stack(tmp_path)
    made.step(lambda root: (root / "a").write_text("one"))
    return made


def test_chmod_to_the_same_mode_is_not_a_change(stack: Stack) -> None:
    assert stack.step(lambda root: (root / "a").chmod(0o644)) == Changes((), ())


def test_chmod_to_another_mode_is_a_change(stack: Stack) -> None:
    assert stack.step(lambda root: (root / "a").chmod(0o600)).written == (b"a",)


def test_link_and_unlink_is_not_a_change(stack: Stack) -> None:
    def act(root: Path) -> None:
        os.link(root / "a", root / "b")
        (root / "b").unlink()

    assert stack.step(act) == Changes((), ())


def test_other_content_of_the_same_size_and_time_is_a_change(stack: Stack) -> None:
    def act(root: Path) -> None:
        info = (root / "a").stat()
        (root / "a").write_text("two")
        os.utime(root / "a", ns=(info.st_atime_ns, info.st_mtime_ns))

    assert stack.step(act).written == (b"a",)


def test_topmost_layer_is_compared(stack: Stack) -> None:
    stack.step(lambda root: (root / "a").write_text("two"))
    assert stack.step(lambda root: (root / "a").chmod(0o644)) == Changes((), ())


def test_new_hard_link_is_packed_with_its_file(stack: Stack) -> None:
    assert stack.step(lambda root: os.link(root / "a", root / "b")).written == (b"a", b"b")


def test_hard_links_are_unmodified_together(tmp_path: Path) -> None:
    stack = Stack(tmp_path)

    def make(root: Path) -> None:
        (root / "a").write_text("one")
        os.link(root / "a", root / "b")

    stack.step(make)
    assert stack.step(lambda root: (root / "b").chmod(0o644)) == Changes((), ())


def test_file_without_its_layer_counts_as_changed(stack: Stack) -> None:
    stack.layers.clear()
    assert stack.step(lambda root: (root / "a").chmod(0o644)).written == (b"a",)


def test_large_layer_is_not_read_for_a_small_file(stack: Stack) -> None:
    @contextmanager
    def refuse() -> Iterator[Readable]:
        raise AssertionError("was read")
        yield io.BytesIO()

    before = scan(stack.rootfs)
    wait_for_tick()
    (stack.path / "a").chmod(0o644)
    found = diff(before, scan(stack.rootfs))
    assert drop_unmodified(stack.rootfs, found, [StoredLayer(1 << 40, refuse)]).written == (b"a",)


def test_links_are_compared_by_target(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.step(lambda root: (root / "l").symlink_to("nowhere"))

    def touch(root: Path) -> None:
        os.link(root / "l", root / "other", follow_symlinks=False)
        (root / "other").unlink()

    assert stack.step(touch) == Changes((), ())
