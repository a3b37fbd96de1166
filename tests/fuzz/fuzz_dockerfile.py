"""Give the parser and the planner bytes that coverage leads to: only documented errors may come out.

Run by ``scripts/fuzz``; libFuzzer's arguments are this program's. A crash is written to a file: make it a case.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["imagewright"]):
    from imagewright.dockerfile.ignore import IgnorePatterns
    from imagewright.dockerfile.parser import parse
    from imagewright.errors import ImagewrightError
    from imagewright.oci.config import ImageConfig
    from imagewright.oci.platform import Platform
    from imagewright.plan.options import PlanOptions
    from imagewright.plan.render import render
    from imagewright.plan.resolve import make_plan

_PLATFORM = Platform.parse("linux/amd64")
_OPTIONS = PlanOptions("", {"a": "x", "HTTP_PROXY": "p"}, _PLATFORM, _PLATFORM)
_BASE = ImageConfig.scratch(_PLATFORM).with_config({"Env": ["PATH=/bin"], "OnBuild": ["RUN x", "COPY a b"]})


def one_input(data: bytes) -> None:
    try:
        plan(data)
    except ImagewrightError as error:
        shown = error.render()
        shown.encode()
        assert all(line.isprintable() for line in shown.split("\n")), shown
    try:
        IgnorePatterns.parse(data.decode("utf-8", "replace")).ignores("a/b/c")
    except ImagewrightError as error:
        error.render().encode()


def plan(data: bytes) -> None:
    built = make_plan(parse(data, "Dockerfile"), _OPTIONS, lambda _: _BASE)
    render(built, values=True).encode("utf-8", "surrogatepass")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
