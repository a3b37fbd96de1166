"""The inputs of a build: the Dockerfile's lines are numbered as its locations are."""

from __future__ import annotations

from pathlib import Path

from imagewright.context.fetch import FetchedContext
from imagewright.contract.request import BuildRequest, ContextSettings
from imagewright.contract.sources import DirectorySource
from imagewright.engine.source.inputs import read_inputs


def test_a_form_feed_does_not_end_a_line(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_bytes(b"FROM scratch\n# a\x0cb\x1cc\xe2\x80\xa8d\r\nLABEL e=f\n")
    request = BuildRequest(context=ContextSettings(source=DirectorySource(path=str(tmp_path))))
    inputs = read_inputs(request, FetchedContext(str(tmp_path)), lambda url, max_bytes: b"")
    last = inputs.dockerfile.stages[0].instructions[-1]
    assert last.location.line == 3
    assert inputs.lines[last.location.line - 1] == "LABEL e=f"
