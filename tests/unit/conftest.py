"""Fixtures of several parts: the kubectl plugin without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from imagebuilds.plugin import Plugin


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    """In the namespace ``team-a``, with a kubeconfig that doesn't exist: for what it does without a cluster."""
    return Plugin(tmp_path / "config", "team-a")
