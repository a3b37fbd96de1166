"""Every folder beside this file is a case: a Dockerfile and what must come of it, as data.

``Dockerfile``   what is planned
``case.toml``    ``about`` (one sentence: what the case shows) and, where needed, ``target``, ``platform``,
                 ``build_platform``, tables ``build_args`` and ``labels``, and per image ``[images."name:tag"]`` its config
``plan.txt``     the rendered plan, or
``error.txt``    the error as a person sees it

An image that a case doesn't describe has only ``PATH=/bin`` in its environment. ``IMAGEWRIGHT_RECORD=1`` writes plan.txt
and error.txt anew: read what changed before committing it.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from imagewright.dockerfile.parser import parse
from imagewright.errors import ImagewrightError
from imagewright.oci.config import ImageConfig
from imagewright.oci.platform import Platform
from imagewright.plan import BuildPlan, NeedConfig, PlanOptions, make_plan, render

_HERE = Path(__file__).parent
_CASES = sorted(path.parent for path in _HERE.glob("*/case.toml"))
_RECORD = os.environ.get("IMAGEWRIGHT_RECORD") == "1"


def _options(case: dict[str, Any]) -> PlanOptions:
    return PlanOptions(
        target=case.get("target", ""),
        build_args=case.get("build_args", {}),
        platform=Platform.parse(case.get("platform", "linux/amd64")),
        build_platform=Platform.parse(case.get("build_platform", "linux/amd64")),
        labels=case.get("labels", {}),
    )


def _answer(question: NeedConfig, case: dict[str, Any]) -> ImageConfig:
    config = case.get("images", {}).get(question.reference.familiar(), {"Env": ["PATH=/bin"]})
    return ImageConfig.scratch(question.platform).with_config(config)


def _plan(dockerfile: bytes, case: dict[str, Any]) -> BuildPlan:
    questions = make_plan(parse(dockerfile, "Dockerfile"), _options(case))
    asked: set[NeedConfig] = set()
    try:
        question = next(questions)
        while True:
            assert question not in asked, "the same image was asked for twice"
            asked.add(question)
            question = questions.send(_answer(question, case))
    except StopIteration as stop:
        plan = stop.value
    assert isinstance(plan, BuildPlan)
    return plan


def _outcome(folder: Path) -> tuple[str, str]:
    """The name of the file that the outcome belongs into, and the outcome."""
    case = tomllib.loads((folder / "case.toml").read_text())
    try:
        return "plan.txt", render(_plan((folder / "Dockerfile").read_bytes(), case))
    except ImagewrightError as error:
        return "error.txt", error.render() + "\n"


@pytest.mark.parametrize("folder", _CASES, ids=lambda path: path.name)
def test_case(folder: Path) -> None:
    name, text = _outcome(folder)
    if _RECORD:
        for other in ("plan.txt", "error.txt"):
            (folder / other).unlink(missing_ok=True)
        (folder / name).write_text(text)
    expected = {path.name: path.read_text() for path in folder.glob("*.txt")}
    assert {name: text} == expected


def test_every_folder_is_a_case_that_says_what_it_shows() -> None:
    folders = [path for path in _HERE.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert sorted(folders) == _CASES
    for folder in folders:
        about = tomllib.loads((folder / "case.toml").read_text())["about"]
        assert about.endswith("."), folder.name
    assert len(folders) >= 40
