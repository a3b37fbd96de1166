"""In the one-container ``root`` sandbox RUN sees the engine's processes. What it sends them does not end the build, or
is reported as what it is.

The attacks are data: ``tests/hostile/run-signals.json``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from containers.container import REPOSITORY, Container, empty_container, make_base

pytestmark = [pytest.mark.root]
ATTACKS = json.loads((REPOSITORY / "tests/hostile/run-signals.json").read_text())
# The scores of all processes that a command sees, its own and the engine's.
LOOK = "cat /proc/[0-9]*/oom_score_adj | sort -u"


@pytest.fixture
def container(tmp_path: Path) -> Container:
    made = empty_container(tmp_path)
    make_base(made)
    return made


def test_the_build_survives(container: Container) -> None:
    runs = [f"RUN {LOOK} >/before"]
    for number, attack in enumerate(ATTACKS):
        runs += [f"RUN <<'EOF'\n{attack['script']}\nexit 0\nEOF", f"RUN {LOOK} >/after-{number}"]
    runs.append('RUN ["/bin/busybox", "grep", "SigIgn", "/proc/self/status"]')
    layers = container.build("FROM base\n" + "\n".join(runs) + "\n")
    seen = {name: text for layer in layers for name, text in layer.contents.items() if not name.startswith("bin/")}
    assert set(seen.values()) == {seen["before"]}, "the engine is as it was before"
    assert len(seen) == 1 + len(ATTACKS)
    assert "SigIgn:\t0000000000000000\n" in container.log, "commands ignore nothing"


@pytest.mark.parametrize("script", ["kill -9 -1", "kill -9 $PPID; sleep 100"])
def test_a_killed_helper_is_not_blamed_on_memory(container: Container, script: str) -> None:
    """SIGKILL cannot be ignored. The helper's parent is the engine, the container's first process."""
    container.execute(container.context(f"FROM base\nRUN <<'EOF'\n{script}\nEOF\n"))
    assert container.code in (7, 8)
    assert "end processes by the process ID" in container.log or "not for lack of memory" in container.log
    assert "memory limit" not in container.log
