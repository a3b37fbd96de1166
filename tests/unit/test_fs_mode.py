"""--chmod: every symbolic mode does what chmod(1) does with an empty umask."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagewright.errors import Reason, UsageError
from imagewright.fs.copy.mode import ModeChange


@pytest.mark.parametrize(
    ("text", "before", "file", "directory"),
    [
        ("0644", 0o7777, 0o644, 0o644),
        ("755", 0, 0o755, 0o755),
        ("4755", 0, 0o4755, 0o4755),
        ("00755", 0, 0o755, 0o755),
        ("000000755", 0, 0o755, 0o755),
        ("0", 0o777, 0, 0),
        ("u=rwX,go=rX", 0o600, 0o644, 0o755),
        ("u=rwX,go=rX", 0o700, 0o755, 0o755),
        ("+x", 0o644, 0o755, 0o755),
        ("a-w", 0o777, 0o555, 0o555),
        ("g=u", 0o750, 0o770, 0o770),
        ("g=u,o-rwx", 0o755, 0o770, 0o770),
        ("u+s", 0o755, 0o4755, 0o4755),
        ("o+t", 0o777, 0o1777, 0o1777),
        ("u+t", 0o777, 0o777, 0o777),
        ("g=rx", 0o4775, 0o4755, 0o4755),
        ("u=rwx", 0o6755, 0o2755, 0o6755),
        ("o=", 0o1777, 0o770, 0o770),
        ("u+x-w", 0o600, 0o500, 0o500),
        ("", 0o644, None, None),
        ("888", 0o644, None, None),
        ("17777", 0o644, None, None),
        ("u+q", 0o644, None, None),
        ("z+r", 0o644, None, None),
        ("u", 0o644, None, None),
        ("u=rwx,", 0o644, None, None),
        ("u+rg", 0o644, None, None),
        ("\u0667\u0665\u0665", 0o644, None, None),
    ],
)
def test_examples(text: str, before: int, file: int | None, directory: int | None) -> None:
    if file is None:
        with pytest.raises(UsageError) as caught:
            ModeChange.parse(text)
        assert caught.value.reason is Reason.USAGE_INVALID
        assert caught.value.hint
        return
    change = ModeChange.parse(text)
    assert oct(change.apply(before, is_directory=False)) == oct(file)
    assert oct(change.apply(before, is_directory=True)) == oct(directory or 0)


_ACTION = st.one_of(
    st.tuples(st.sampled_from("+-="), st.text("rwxXst", max_size=4)),
    st.tuples(st.sampled_from("+-="), st.sampled_from("ugo")),
).map("".join)
_CLAUSE = st.tuples(st.text("ugoa", max_size=3), st.lists(_ACTION, min_size=1, max_size=3).map("".join)).map("".join)
SYMBOLIC = st.lists(_CLAUSE, min_size=1, max_size=3).map(",".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=SYMBOLIC, before=st.lists(st.integers(0, 0o7777), min_size=4, max_size=4))
def test_symbolic_modes_do_what_chmod_does(tmp_path: Path, text: str, before: list[int]) -> None:
    places: list[tuple[Path, int]] = []
    for index, mode in enumerate(before):
        for place in (tmp_path / f"file{index}", tmp_path / f"directory{index}"):
            if place.name.startswith("file"):
                place.touch()
            else:
                place.mkdir(exist_ok=True)
            os.chmod(place, mode)
            places.append((place, mode))
    command = ["chmod", "--", text, *(str(place) for place, _ in places)]
    result = subprocess.run(command, umask=0, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    change = ModeChange.parse(text)
    for place, mode in places:
        expected = stat.S_IMODE(place.stat().st_mode)
        assert oct(change.apply(mode, is_directory=place.is_dir())) == oct(expected), (text, oct(mode), place.name)
