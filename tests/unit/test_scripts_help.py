"""``--help`` of every command in scripts prints help and does nothing else, also where nothing is set up."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(file.name for file in (ROOT / "scripts").iterdir())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts and what their help needs, with a PATH on which nothing can be installed."""
    shutil.copytree(ROOT / "scripts", tmp_path / "top" / "scripts")
    shutil.copytree(ROOT / "tests" / "quickstart", tmp_path / "top" / "tests" / "quickstart")
    (tmp_path / "bin").mkdir()
    for name in ("bash", "sed", "dirname"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    return tmp_path / "top"


def call(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Call a script, and check that no file was made or changed."""
    before = {path: path.stat().st_mtime_ns for path in checkout.rglob("*")}
    bash, path = str(shutil.which("bash")), str(checkout.parent / "bin")
    script = f"scripts/{words[0]}"
    done = subprocess.run(
        [bash, script, *words[1:]], cwd=checkout, env={"PATH": path}, capture_output=True, text=True, check=False
    )
    assert {path: path.stat().st_mtime_ns for path in checkout.rglob("*")} == before
    return done


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_help_does_nothing_else(checkout: Path, script: str, flag: str) -> None:
    done = call(checkout, script, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 40


def test_the_quickstart_without_python_still_installs_nothing_for_its_help(checkout: Path) -> None:
    (checkout.parent / "bin" / "python3").unlink()
    done = call(checkout, "quickstart", "--help")
    assert done.returncode == 0
    assert "--kubeconfig FILE --registry HOST/REPO" in done.stdout


@pytest.mark.parametrize(
    "words", [("--kubeconfig=a",), ("--nonsense",), ("--with=own", "--kubeconfig=a", "--registry=b/c")]
)
def test_the_quickstart_refuses_wrong_arguments_before_it_installs_anything(
    checkout: Path, words: tuple[str, ...]
) -> None:
    done = call(checkout, "quickstart", *words)
    assert done.returncode == 2
    assert "usage: scripts/quickstart" in done.stderr
