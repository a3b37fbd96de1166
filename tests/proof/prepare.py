"""``python -m proof.prepare``: compile and make, in the background, what the tests need: programs, then base images.

I/O: runs Go, npm and mmdebstrap; writes to the cache. A test that needs something which isn't there yet waits for the
lock of whoever makes it. Here a failure only says so: the test that needs it fails by its own words.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from cluster.binaries import binaries
from cluster.places import ClusterError
from cluster.progress import say
from installing.programs import helm, promtool
from peers import programs as peers
from servers import programs as servers
from servers.basecontent import base_content

# What most tests wait for comes first.
_ORDER: tuple[Callable[[], object], ...] = (
    binaries,
    base_content,
    servers.programs,
    servers.azurite,
    helm,
    promtool,
    peers.programs,
)


def main() -> int:
    failed = False
    for make in _ORDER:
        try:
            make()
        except ClusterError as problem:
            failed = True
            say(f"{make.__module__}.{make.__name__}: {problem}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
