"""The engine starts programs by absolute path: none that a folder of a build's could stand in for."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagewright.programs import find_program

ENGINE = Path(__file__).parents[2] / "builder" / "imagewright"
COMMANDS = "sandbox/processes/command.py"  # executes a RUN's command, by the PATH of its image, below its root
STARTING = ("run", "Popen", "call", "check_call", "check_output")


def program(folder: Path, name: str) -> str:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text("#!/bin/true\n")
    file.chmod(0o755)
    return str(file)


def test_the_first_absolute_folder_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = program(tmp_path / "a", "tool"), program(tmp_path / "b", "tool")
    (tmp_path / "c").mkdir()
    assert find_program("tool", f"{tmp_path}/c:{tmp_path}/a:{tmp_path}/b") == first
    assert find_program("tool", f"{tmp_path}/b:{tmp_path}/a") == second
    monkeypatch.chdir(tmp_path / "a")
    for path in ("", ".", ":", "a:", "../a", None):
        assert find_program("tool", path) is None
    assert find_program("tool", f".::{tmp_path}/b") == second
    assert find_program("./tool", f"{tmp_path}/b") is None
    assert find_program("../a/tool", f"{tmp_path}/b") is None
    os.chmod(second, 0o644)
    assert find_program("tool", f"{tmp_path}/b") is None


def started(tree: ast.AST) -> Iterator[ast.expr]:
    """What each call starts: the first word."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Attribute(ast.Name("subprocess"), name), [first, *_]) if name in STARTING:
                yield first.elts[0] if isinstance(first, ast.List) and first.elts else first


def test_no_program_is_started_by_its_name() -> None:
    found = 0
    for file in sorted(ENGINE.rglob("*.py")):
        text = file.read_text()
        where = str(file.relative_to(ENGINE))
        assert "execvp" not in text or where == COMMANDS, where
        assert "shutil.which" not in text or where == "programs.py", where
        for first in started(ast.parse(text)):
            found += 1
            assert not isinstance(first, (ast.JoinedStr, ast.Constant)), f"{where}:{first.lineno}"
    assert found >= 4
