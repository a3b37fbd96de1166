"""The tiers of the tests, in the order in which they run. No I/O."""

from __future__ import annotations

_FOLDERS = {
    "unit": ("tests/unit/",),
    "planned cases": ("tests/cases/test_cases.py",),
    # What needs no program that has to be compiled first.
    "integration": (
        "tests/integration/sandbox/",
        "tests/integration/test_cli_",
        "tests/integration/test_context_archives",
        "tests/integration/test_context_git",
        "tests/integration/test_context_download",
        "tests/integration/test_context_tar",
        "tests/integration/test_fs_",
        "tests/integration/test_http_",
        "tests/integration/test_progress_",
    ),
    "engine": ("tests/integration/engine/", "tests/integration/test_engine_", "tests/integration/test_ordinary_user"),
    "registry": ("tests/integration/registry/", "tests/integration/test_context_"),
    "operator": ("tests/integration/operator/", "tests/integration/test_monitoring_"),
    "executed cases": ("tests/cases/",),
    "end to end": ("tests/e2e/",),
}
OTHER = "other"
PEERS_GROUP = "peers"  # tests of this group share a worker, and so one BuildKit
TIERS = (*_FOLDERS, OTHER)


def tier_of(nodeid: str) -> str:
    """The first tier that has this test."""
    return next((tier for tier, prefixes in _FOLDERS.items() if nodeid.startswith(prefixes)), OTHER)
