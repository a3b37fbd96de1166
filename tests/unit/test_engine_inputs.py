"""The inputs of a build: the Dockerfile's lines are numbered as its locations are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imagewright.context.fetch import FetchedContext
from imagewright.contract.request import BuildArg, BuildRequest, ContextSettings, PlanSettings
from imagewright.contract.sources import DirectorySource
from imagewright.engine.source.inputs import _build_args, read_inputs, resolve_epoch
from imagewright.errors import UsageError


def test_a_form_feed_does_not_end_a_line(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_bytes(b"FROM scratch\n# a\x0cb\x1cc\xe2\x80\xa8d\r\nLABEL e=f\n")
    request = BuildRequest(context=ContextSettings(source=DirectorySource(path=str(tmp_path))))
    inputs = read_inputs(request, FetchedContext(str(tmp_path)), lambda url, max_bytes: b"")
    last = inputs.dockerfile.stages[0].instructions[-1]
    assert last.location.line == 3
    assert inputs.lines[last.location.line - 1] == "LABEL e=f"


def test_a_null_byte_in_a_build_argument_is_refused() -> None:
    request = BuildRequest(
        context=ContextSettings(source=DirectorySource(path="/")),
        plan=PlanSettings(build_args=(BuildArg(name="a", value="x\0y"),)),
    )
    with pytest.raises(UsageError, match='build argument "a": it contains a null byte'):
        _build_args(request, {})


def test_an_endless_time_is_refused(tmp_path: Path) -> None:
    remotes: Any = None  # not asked
    with pytest.raises(UsageError, match="invalid SOURCE_DATE_EPOCH") as caught:
        resolve_epoch("1" * 10_000, FetchedContext(str(tmp_path)), lambda _: None, remotes)
    assert len(caught.value.message) < 300
