"""Cleaning of foreign text, and the format of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewright.progress.display import duration, size
from imagewright.terminal import Lines, clean


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;https://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP+q544e\x1b\\dcs", "dcs"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x1b(Bascii", "ascii"),
        ("\x1bcreset", "reset"),
        ("half an escape\x1b", "half an escape"),
        ("half an escape\x1b[3", "half an escape"),
        ("\x1b]0;no end", ""),
        ("\x9b31mC1", "31mC1"),
        ("bell\x07 null\x00 del\x7f", "bell null del"),
        ("tab\tstays", "tab\tstays"),
        ("10%\r50%\r100%", "100%"),
        ("dos\r", "dos"),
        ("turned \u202egnp.exe", "turned gnp.exe"),
        ("not utf-8 \udcff", "not utf-8 "),
        ("日本語 ✓", "日本語 ✓"),
    ],
)
def test_clean(line: str, shown: str) -> None:
    assert clean(line) == shown


@given(st.text())
def test_clean_text_can_be_encoded_and_stays_clean(text: str) -> None:
    line = clean(text)
    line.encode()
    assert "\x1b" not in line
    assert clean(line) == line


@given(st.lists(st.binary(max_size=40)), st.data())
def test_lines_do_not_depend_on_how_the_stream_is_cut(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    cut = data.draw(st.integers(0, len(whole)))

    def lines(*parts: bytes) -> list[str]:
        reader = Lines()
        return [line for part in parts for line in reader.add(part)] + list(reader.rest())

    assert lines(*pieces) == lines(whole[:cut], whole[cut:]) == lines(whole)


def test_a_character_split_between_pieces_is_joined() -> None:
    reader = Lines()
    text = "größe\n".encode()
    assert [line for byte in text for line in reader.add(bytes([byte]))] == ["größe"]


def test_an_endless_line_is_split_without_loss() -> None:
    reader = Lines()
    lines = reader.add(b"x" * 100_000)
    assert max(map(len, lines)) <= 16 * 1024
    assert len("".join([*lines, *reader.rest()])) == 100_000


def test_of_an_endless_progress_bar_only_the_last_version_is_kept() -> None:
    reader = Lines()
    lines = [line for number in range(20_000) for line in reader.add(b"\r%d of 20000" % number)]
    assert lines == []
    assert reader.unfinished() == "19999 of 20000"
    assert list(reader.rest()) == ["19999 of 20000"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (99_960, "100 kB"), (999_499, "999 kB"),
     (999_600, "1.0 MB"), (45_600_000, "45.6 MB"), (2_000_000_000, "2.00 GB"), (5_000_000_000_000, "5000.00 GB")],
)  # fmt: skip
def test_size(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (0.04, "0.0 s"), (59.94, "59.9 s"), (59.97, "1 min 00 s"), (61.4, "1 min 01 s"), (3600, "60 min 00 s")]
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
