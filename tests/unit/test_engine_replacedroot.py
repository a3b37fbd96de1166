"""Credential helpers in a build that replaces ``/``: those that it leaves as they are, and that need nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagewright.engine.source.replacedroot import with_own_helpers

NAME = "docker-credential-mine"


@pytest.fixture
def static(tmp_path: Path) -> bytes:
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    subprocess.run(["gcc", "-static", "-o", tmp_path / "static", tmp_path / "main.c"], check=True)
    return (tmp_path / "static").read_bytes()


class Place:
    """``kept`` is not touched by the build, ``replaced`` is."""

    def __init__(self, path: Path) -> None:
        self.kept, self.replaced, self.links = path / "kept", path / "replaced", path / "links"
        for each in (self.kept, self.replaced, self.links):
            each.mkdir()
        self.warnings: list[str] = []

    def find(self) -> list[str]:
        """Where the helpers are that remain."""
        path = f"{self.replaced}::{self.kept}:/nowhere"
        environment = {"PATH": path, "HOME": "/root"}
        found = with_own_helpers(environment, str(self.links), [str(self.kept)], self.warnings.append)
        assert found == {"PATH": str(self.links), "HOME": "/root"}
        return [os.readlink(link) for link in sorted(self.links.iterdir())]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_static_program_in_a_kept_place_remains(place: Place, static: bytes) -> None:
    (place.kept / NAME).write_bytes(static)
    (place.kept / "git").write_bytes(static)
    assert place.find() == [str(place.kept / NAME)]
    assert place.warnings == []


def test_one_that_is_replaced_does_not_hide_another(place: Place, static: bytes) -> None:
    (place.replaced / NAME).write_bytes(static)
    (place.kept / NAME).write_bytes(static)
    assert place.find() == [str(place.kept / NAME)]
    assert place.warnings == [f'"{place.replaced / NAME}" is not used: the build replaces it. Put it into /kaniko']


def test_a_link_counts_as_what_it_leads_to(place: Place, static: bytes) -> None:
    (place.replaced / "real").write_bytes(static)
    (place.kept / NAME).symlink_to(place.replaced / "real")
    assert place.find() == []
    (place.kept / NAME).unlink()
    (place.kept / "real").write_bytes(static)
    (place.replaced / NAME).symlink_to(place.kept / "real")
    assert place.find() == [str(place.kept / "real")]


@pytest.mark.parametrize("kind", ["script", "dynamic", "empty", "cut", "count", "offset", "size", "directory"])
def test_a_program_that_needs_another_file_is_not_used(place: Place, static: bytes, kind: str) -> None:
    data = bytearray(static)
    if kind == "count":
        data[56:58] = b"\0\0"
    elif kind == "size":
        data[54:56] = b"\x01\0"
    elif kind == "offset":
        data[32:40] = b"\xff" * 7 + b"\x7f"
    contents = {
        "script": b"#!/bin/sh\n",
        "dynamic": Path(os.path.realpath(sys.executable)).read_bytes(),
        "empty": b"",
        "cut": static[:70],
    }
    if kind == "directory":
        (place.kept / NAME).mkdir()
    else:
        (place.kept / NAME).write_bytes(contents.get(kind, bytes(data)))
    assert place.find() == []
    assert "it is not statically linked" in place.warnings[0]
