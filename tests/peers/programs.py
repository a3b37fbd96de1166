"""Build BuildKit's daemon and client once, from the Go module in this directory.

Runs ``go``; writes below the cache of the test cluster, keyed by the module's content.
"""

from __future__ import annotations

from pathlib import Path

from cluster.binaries import content_key, made_once, run
from cluster.places import cache_root
from cluster.progress import step
from cluster.toolchain import find_go

MODULE = Path(__file__).parent / "go"
TAGS = "osusergo netgo static_build seccomp"


def programs() -> Path:
    """The folder that holds ``buildkitd`` and ``buildctl``, built if it isn't there.

    Raises:
        ClusterError: no Go, or the build failed.
    """
    return made_once(cache_root() / "peers" / content_key(MODULE, TAGS), _build)


def _build(partial: Path) -> None:
    go = find_go(MODULE)
    with step("Building BuildKit, once", "four minutes on two cores"):
        flags = ["-trimpath", "-tags", TAGS, "-ldflags", "-s -w"]
        run(go, "build", "-v", *flags, "-o", f"{partial}/", "tool", module=MODULE, cgo=False)
