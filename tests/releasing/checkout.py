"""What a checkout says of its release: version, notes, whether anything is uncommitted. Reads files; runs git."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import yaml
from cluster.places import ClusterError

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "imagewright"


def version() -> str:
    """pyproject.toml's: the one place, which the chart follows."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def notes(wanted: str) -> str:
    """The section of CHANGELOG.md whose heading is the version, with or without a date after it.

    Raises:
        ClusterError: there is none, or nothing is in it.
    """
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(wanted)}(?: [^\n]*)?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        raise ClusterError(
            f'cannot release {wanted}: CHANGELOG.md has no section "## {wanted}"\n'
            'hint: Rename "## Unreleased" and commit that.'
        )
    return found[1].strip() + "\n"


def check(wanted: str) -> None:
    """Refuse what would not be the release of that version.

    Raises:
        ClusterError: another version, one that the chart doesn't have, uncommitted changes.
    """
    if version() != wanted:
        raise ClusterError(
            f'cannot release {wanted}: pyproject.toml has version "{version()}"\nhint: Change it there and commit that.'
        )
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    for key in ("version", "appVersion"):
        if chart[key] != wanted:
            raise ClusterError(f'cannot release {wanted}: {key} of Chart.yaml is "{chart[key]}"')
    if changed := git("status", "--porcelain"):
        raise ClusterError(f"cannot release {wanted}: the checkout has uncommitted changes:\n{changed}")


def commit_time() -> str:
    """Of the commit that is released, in seconds since 1970."""
    return git("log", "-1", "--format=%ct").strip()


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
