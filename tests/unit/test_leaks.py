"""What looks for secrets finds them: otherwise tests that find none would show nothing."""

from __future__ import annotations

import base64
import gzip
import json
import os
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from leaks.needles import Needles

SECRET = 's3cret-"ß"-/+a long and unlikely one'


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("after", ["", "x", "xy", "xyz"])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("raw", lambda text: text.encode()),
        ("base64", lambda text: base64.b64encode(text.encode())),
        ("base64", lambda text: base64.urlsafe_b64encode(text.encode())),
        ("hex", lambda text: text.encode().hex().encode()),
        ("hex", lambda text: text.encode().hex().upper().encode()),
        ("JSON", lambda text: json.dumps({"a": text}).encode()),
        ("URL", lambda text: urllib.parse.quote(text, safe="").encode()),
        ("UTF-16", lambda text: text.encode("utf-16")),
    ],
)
def test_every_form_is_found_within_a_longer_text(
    before: str, after: str, name: str, write: Callable[[str], bytes]
) -> None:
    assert name in Needles(SECRET).in_bytes(write(before + SECRET + after))
    assert not Needles(SECRET).in_bytes(write(before + SECRET.replace("long", "l0ng") + after))


def test_a_single_line_of_a_text_is_found() -> None:
    needles = Needles("-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n")
    assert needles.in_text("  MIIEvQIBADANBgkqhkiG  ")
    assert not needles.in_text("MIIEvQIBADANBgkqhki")


def test_files_their_names_links_and_what_is_compressed(tmp_path: Path) -> None:
    needles = Needles("a-long-secret-0123456789")
    (tmp_path / "sub").mkdir()
    assert needles.in_files([tmp_path]) == []
    (tmp_path / "sub" / "layer").write_bytes(gzip.compress(b"tar a-long-secret-0123456789 tar"))
    (tmp_path / "link").symlink_to("/a-long-secret-0123456789")
    (tmp_path / "a-long-secret-0123456789").touch()
    (tmp_path / "attribute").touch()
    os.setxattr(tmp_path / "attribute", "user.a", b"a-long-secret-0123456789")
    assert [os.path.basename(line.partition(":")[0]) for line in needles.in_files([tmp_path])] == [
        "a-long-secret-0123456789",
        "attribute",
        "link",
        "layer",
    ]


def test_too_short_a_secret_is_no_test() -> None:
    with pytest.raises(AssertionError, match="too short"):
        Needles("hunter2")
