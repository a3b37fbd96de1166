"""Output formats and exit codes of ``imagewright lint``, and the generated page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imagewright.cli.main import main
from imagewright.lint.ruledocs import markdown
from imagewright.lint.rules import RULES

BAD = "FROM scratch as x\nENV A $B\nCMD foo\n"


@pytest.fixture
def dockerfile(tmp_path: Path) -> Path:
    path = tmp_path / "some" / "Dockerfile.dev"
    path.parent.mkdir()
    path.write_text(BAD)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["lint", *words], {})
    return code, capsys.readouterr().out


def test_json_has_rule_message_fix_and_location(dockerfile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, str(dockerfile), "--format=json")
    warnings = json.loads(out)["warnings"]
    assert code == 3
    assert [w["rule"] for w in warnings] == [
        "FromAsCasing", "LegacyKeyValueFormat", "UndefinedVar", "JSONArgsRecommended",
    ]  # fmt: skip
    undefined = warnings[2]
    assert undefined["message"] == "Usage of undefined variable '$B'"
    assert undefined["fix"]
    assert (undefined["line"], undefined["column"], undefined["endColumn"]) == (2, 7, 9)
    assert undefined["file"] == str(dockerfile)


def test_sarif_has_what_the_standard_requires(dockerfile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = run(capsys, str(dockerfile), "--format=sarif")
    document: dict[str, Any] = json.loads(out)
    assert document["version"] == "2.1.0"
    (one,) = document["runs"]
    rules = one["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.name for rule in RULES]
    assert all(rule["shortDescription"]["text"] and rule["help"]["text"] for rule in rules)
    assert len(one["results"]) == 4
    for result in one["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        region = result["locations"][0]["physicalLocation"]["region"]
        assert 1 <= region["startLine"] <= region["endLine"]
        assert region["startColumn"] < region["endColumn"]


def test_exit_codes(dockerfile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, str(dockerfile), "--warn-only")[0] == 0
    dockerfile.write_text('FROM scratch AS x\nCMD ["foo"]\n')
    assert run(capsys, str(dockerfile)) == (0, "no warnings\n")
    dockerfile.write_text("FORM scratch\n")
    assert run(capsys, str(dockerfile))[0] == 3
    assert run(capsys, str(dockerfile), "--format=xml")[0] == 2
    assert run(capsys, str(dockerfile), str(dockerfile))[0] == 2


def test_variables_of_a_base_image_are_not_reported_as_undefined(
    dockerfile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dockerfile.write_text("FROM debian\nENV A=$B\n\nFROM scratch\nENV C=$D\n")
    code, out = run(capsys, str(dockerfile))
    assert code == 3
    assert "'$D'" in out
    assert "'$B'" not in out


def test_the_build_argument_overrides_the_directive(dockerfile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dockerfile.write_text("# check=skip=all\n" + BAD)
    assert run(capsys, str(dockerfile))[0] == 0
    code, out = run(capsys, str(dockerfile), "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=UndefinedVar")
    assert code == 3
    assert "UndefinedVar" not in out


def test_the_page_is_generated_from_the_rules() -> None:
    page = Path(__file__).parents[2] / "docs" / "lint.md"
    assert page.read_text() == markdown(), "run `python -m imagewright.lint.ruledocs > docs/lint.md`"
