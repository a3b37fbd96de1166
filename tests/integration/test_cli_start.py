"""What the program imports before it does what it is asked for: most of the time that it takes to start."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = frozenset({"boto3", "google", "pydantic", "requests", "rich", "urllib3", "yaml", "zstandard"})


def imported_by(*words: str) -> set[str]:
    """The packages, those of ours by module, that ``imagewright WORDS`` has imported in the end."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "imagewright", *words], check=False, capture_output=True, text=True
    )
    lines = (line.rpartition("|") for line in done.stderr.splitlines() if line.startswith("import time:"))
    names = {name.strip() for _, _, name in lines}
    assert "imagewright.cli.main" in names
    return {name if name.startswith("imagewright.") else name.partition(".")[0] for name in names}


def test_the_version_needs_none_of_the_engine() -> None:
    imported = imported_by("version")
    assert not imported & HEAVY
    ours = {name.removeprefix("imagewright.") for name in imported if name.startswith("imagewright.")}
    assert ours == {"errors", "logins", "records", "cli", "cli.main", "cli.command"}


@pytest.mark.parametrize("words", [("build", "--no-such-flag"), ("execute",)], ids=" ".join)
def test_a_build_without_a_terminal_needs_no_library_that_draws(words: tuple[str, ...]) -> None:
    imported = imported_by(*words)
    assert "imagewright.engine.build" in imported
    assert "rich" not in imported


def test_the_idle_container_of_commands_needs_neither_the_engine_nor_its_libraries() -> None:
    imported = imported_by("runner")
    assert "imagewright.sandbox.runner.server" in imported
    assert not {name for name in imported if name.startswith(("imagewright.engine.build", "imagewright.registry"))}
    assert not imported & {"requests", "rich", "urllib3", "zstandard"}
