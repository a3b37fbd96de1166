"""Whose memory was exhausted, read from the files of both versions of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagewright.sandbox.kernel.memory import counts, memory_use
from imagewright.sandbox.model import MemoryUse

GI, MI = 1 << 30, 1 << 20


def unified(directory: Path, limit: str = "max") -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 0\n")
    (directory / "memory.peak").write_text(f"{GI}\n")
    (directory / "memory.max").write_text(f"{limit}\n")


def legacy(directory: Path, limit: int = 9223372036854771712) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    (directory / "memory.max_usage_in_bytes").write_text(f"{GI}\n")
    (directory / "memory.limit_in_bytes").write_text(f"{limit}\n")


def process(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cgroup"
    path.write_text(text)
    return path


@pytest.mark.parametrize("limit", [None, 4 * GI])
@pytest.mark.parametrize("seen_as", ["", "kubepods/pod1/executor"])
def test_both_cgroup_versions_inside_and_outside_of_containers(tmp_path: Path, limit: int | None, seen_as: str) -> None:
    unified(tmp_path / "v2" / seen_as, str(limit) if limit else "max")
    legacy(tmp_path / "v1" / "memory" / seen_as, limit or 9223372036854771712)
    new, old = "0::/kubepods/pod1/executor\n", "5:devices:/x\n4:cpu,memory:/kubepods/pod1/executor\n"
    assert memory_use(tmp_path / "v2", process(tmp_path, new)) == MemoryUse(2, GI, limit)
    assert memory_use(tmp_path / "v1", process(tmp_path, old)) == MemoryUse(3, GI, limit)


def test_memory_in_a_hybrid_cgroup_hierarchy(tmp_path: Path) -> None:
    legacy(tmp_path / "memory")
    (tmp_path / "unified").mkdir()
    assert memory_use(tmp_path, process(tmp_path, "4:memory:/\n0::/\n")) == MemoryUse(3, GI, None)


def test_missing_files_give_none(tmp_path: Path) -> None:
    assert memory_use(tmp_path, process(tmp_path, "0::/\n")) is None  # the machine's own group has no such files
    assert memory_use(tmp_path, tmp_path / "none") is None


def test_kernel_before_5_19_has_no_peak(tmp_path: Path) -> None:
    unified(tmp_path, str(4 * GI))
    (tmp_path / "memory.peak").unlink()
    assert memory_use(tmp_path, process(tmp_path, "0::/\n")) == MemoryUse(2, None, 4 * GI)


@pytest.mark.parametrize(
    ("peak", "limit", "reached"),
    [
        (200 * MI, 200 * MI, True),
        (196 * MI, 200 * MI, True),  # the Pod has the same limit, and its other container used the rest
        (150 * MI, 200 * MI, False),
        (GI, 4 * GI, False),
        (8 * GI, None, False),
        (None, 4 * GI, True),  # not known: a build that exceeds its limit must not be retried
        (None, None, False),
    ],
)
def test_peak_slightly_below_the_limit_counts_as_reached(peak: int | None, limit: int | None, reached: bool) -> None:
    assert MemoryUse(1, peak, limit).reached_limit is reached


def test_machine_wide_kills_are_visible() -> None:
    assert counts().machine_kills is not None
