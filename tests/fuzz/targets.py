"""The parsers of foreign bytes, each as a target of the fuzzer: only documented errors may come out of them.

No I/O. ``run`` executes one; what it may cost is up to the caller.
"""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Callable

from imagewright.context.git.address import parse_git
from imagewright.contract.request import BuildRequest
from imagewright.contract.result import BuildResult
from imagewright.dockerfile.duration import parse_duration
from imagewright.dockerfile.expand import Allowance, ExpansionError, ExpansionOptions, expand
from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.dockerfile.parser import parse
from imagewright.errors import ImagewrightError
from imagewright.fs.copy import glob
from imagewright.fs.copy.mode import ModeChange
from imagewright.fs.tar.decompress import open_layer
from imagewright.fs.tar.reader import TarReader
from imagewright.oci.config import ImageConfig
from imagewright.oci.manifest import Index, Manifest, is_index
from imagewright.oci.platform import Platform
from imagewright.plan.options import PlanOptions
from imagewright.plan.ports import PortError, parse_ports
from imagewright.plan.remote import RemoteError, parse_remote
from imagewright.plan.render import render
from imagewright.plan.resolve import make_plan
from imagewright.reference import Reference
from imagewright.registry.challenges import parse_challenges
from imagewright.terminal import Lines
from imagewright_operator.pods import logtail

_PLATFORM = Platform.parse("linux/amd64")
_OPTIONS = PlanOptions("", {"a": "x", "HTTP_PROXY": "p"}, _PLATFORM, _PLATFORM)
_BASE = ImageConfig.scratch(_PLATFORM).with_config({"Env": ["PATH=/bin"], "OnBuild": ["RUN x", "COPY a b"]})


def run(target: str, data: bytes) -> None:
    """Execute a target; documented errors are results, too."""
    try:
        TARGETS[target](data)
    except ImagewrightError as error:
        shown = error.render()
        shown.encode()
        assert all(line.isprintable() for line in shown.split("\n")), shown


def _text(data: bytes) -> str:
    """As Dockerfiles and arguments are decoded: bytes that are not UTF-8 are kept as surrogates."""
    return data.decode("utf-8", "surrogateescape")


def _halves(data: bytes) -> tuple[str, str]:
    """Two texts, divided by the first newline."""
    first, _, second = _text(data).partition("\n")
    return first, second


def _dockerfile(data: bytes) -> None:
    built = make_plan(parse(data, "Dockerfile"), _OPTIONS, lambda _: _BASE)
    render(built, values=True).encode("utf-8", "surrogatepass")


def _expansion(data: bytes) -> None:
    word, value = _halves(data)
    with contextlib.suppress(ExpansionError):
        expand(word, {"a": value, "b": "x"}, ExpansionOptions(allowance=Allowance(100_000)))


def _ignore(data: bytes) -> None:
    path, patterns = _halves(data)
    ignore = IgnorePatterns.parse(patterns)
    ignore.ignores(path)
    ignore.may_include_below(path)


def _glob(data: bytes) -> None:
    pattern, name = _halves(data)
    glob.compiled.__wrapped__(pattern).fullmatch(name)


def _challenge(data: bytes) -> None:
    parse_challenges(_text(data))


def _tar(data: bytes) -> None:
    reader = TarReader(io.BytesIO(data))
    for _ in reader:
        for _ in reader.chunks():
            pass


def _compressed(data: bytes) -> None:
    stream, size = open_layer(io.BytesIO(data)), 0
    while size < 1 << 22 and (chunk := stream.read(1 << 16)):
        size += len(chunk)


def _documents(data: bytes) -> None:
    for read in (Manifest.parse, Index.parse, lambda raw: is_index(raw, "")):
        with contextlib.suppress(ImagewrightError):
            read(data)
    ImageConfig.parse(data).dump()


def _contract(data: bytes) -> None:
    with contextlib.suppress(ImagewrightError):
        BuildRequest.decode(base64.b64encode(data).decode())
    BuildResult.parse(_text(data))
    logtail.step(data)
    logtail.tail(data)
    logtail.result(data)


def _words(data: bytes) -> None:
    """Parsers of a word."""
    text = _text(data)
    parse_duration(text)
    with contextlib.suppress(PortError):
        parse_ports(text)
    with contextlib.suppress(RemoteError):
        parse_remote(text)
    for read in (ModeChange.parse, Reference.parse, Platform.parse, lambda text: parse_git(text, "", {})):
        with contextlib.suppress(ImagewrightError):
            read(text)


def _terminal(data: bytes) -> None:
    lines = Lines()
    shown = [*lines.add(data[: len(data) // 2]), *lines.add(data[len(data) // 2 :]), *lines.rest()]
    assert not any("\x1b" in line for line in shown)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "dockerfile": _dockerfile,
    "expansion": _expansion,
    "ignore": _ignore,
    "glob": _glob,
    "challenge": _challenge,
    "tar": _tar,
    "compressed": _compressed,
    "documents": _documents,
    "contract": _contract,
    "words": _words,
    "terminal": _terminal,
}
