"""The resource's rules, as ``create --dry-run`` reads them; the API server reads the same ones in test_kubectl_create."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from imagebuilds.plugin import Plugin

from imagewright_kubectl.specrules import problems, read

GIT = {"url": "https://h/a.git", "poll": "1m", "ref": {"branch": "main"}}
SPEC: dict[str, Any] = {"source": {"git": GIT}, "output": {"tags": ["r.io/a:1"]}}


def test_what_is_right_has_no_problems() -> None:
    assert (
        problems({"metadata": {"name": "a.b-1"}, "spec": {**SPEC, "timeout": "24h", "platforms": ["linux/amd64"]}})
        == []
    )


def test_all_that_is_wrong_is_told_at_once() -> None:
    git = {"url": "https://me:s3cr3t@h/a.git", "poll": "1s", "ref": {"commit": "a" * 40}}
    spec = {"source": {"git": git}, "output": {"tags": ["r.io/a:1", "r.io/A:1"]}, "timeout": "5x"}
    found = problems({"metadata": {"name": "My_App"}, "spec": spec})
    assert sorted(one.partition(":")[0] for one in found) == [
        "metadata.name",
        "spec.output.tags[1]",
        "spec.source.git",
        "spec.source.git.poll",
        "spec.source.git.url",
        "spec.timeout",
    ]
    assert "s3cr3t" not in str(found)


def test_dry_run_refuses_what_is_wrong() -> None:
    plugin = Plugin(Path("/nonexistent"), "n")
    words = ["create", "app", "--dry-run", "--git=https://h/a.git", "-t=r.io/a:1"]
    one = plugin.run(*words, "--timeout=5x")
    assert (one.returncode, one.stdout) == (2, "")
    assert one.stderr.startswith(
        "error: spec.timeout: is not a duration: write it as 45s, 30m, 1h or 1h30m [InvalidSpec]\n"
    )
    two = plugin.run(*words, "--timeout=25h", "--poll=1s")
    assert two.stderr.splitlines()[:2] == [
        "error: 2 things are wrong with the ImageBuild [InvalidSpec]",
        "  spec.source.git.poll: must be at least 1m: write it as 5m, 1h or 1h30m",
    ]


@pytest.mark.parametrize(
    ("rule", "value", "holds"),
    [
        ("self.matches('^a$') || self.matches('^b$') && self.contains('c')", "a", True),
        ("!(self.matches('^a$') || self.startsWith('b'))", "b", False),
        (r"self.matches('^\\.$')", ".", True),
        (r"self.matches('^\\.$')", "a", False),
        ("has(self.a.b)", {"a": {}}, False),
        ("has(self.a) && self.a == 'x'", {"a": "x"}, True),
        ("duration(self) > duration('90m')", "1h30m", False),
        ("self != '..' && self.size() > 0", "", False),
    ],
)
def test_a_rule_that_is_read(rule: str, value: Any, holds: bool) -> None:
    asked = read(rule)
    assert asked is not None
    assert asked(value) is holds


@pytest.mark.parametrize(
    "rule", ["self.size() < 3", "has(self.a) != has(self.b)", "(self.size() > 0", "", "[1].exists(x, x)"]
)
def test_a_rule_that_isnt_read_is_the_api_servers(rule: str) -> None:
    assert read(rule) is None
