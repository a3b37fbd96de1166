"""The options and the order of all tests: what ``tests/proof`` and the peers of the cases need of pytest."""

from __future__ import annotations

import pytest
from hypothesis import settings

pytest_plugins = ["proof.plugin"]

settings.register_profile("imagewright", deadline=None)  # time is not what is tested, and workers share the cores
settings.load_profile("imagewright")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--peers",
        choices=["part", "again", "recorded"],
        default="part",
        help="which cases BuildKit and buildah answer again: a part that moves on with each commit, all, or none",
    )
