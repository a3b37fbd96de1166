"""The registry as builders see it: through the relay that counts.

Starts the registry, whose content stays in the cache; one bench at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.binaries import binaries, locked
from servers.registry import RegistryServer, RegistryServerOptions

from bench.proxy import CountingProxy

_REQUEST = re.compile(rb'"(?:GET|HEAD|POST|PUT|PATCH|DELETE) /v2/')


@dataclass(frozen=True, slots=True)
class Registry:
    """``log`` has a line for each request."""

    proxy: CountingProxy
    log: Path

    @property
    def host(self) -> str:
        return self.proxy.host

    def requests(self) -> int:
        """All so far."""
        return len(_REQUEST.findall(self.log.read_bytes()))


@contextmanager
def started(cache: Path) -> Iterator[Registry]:
    """With an empty log. Another bench waits: the two would disturb each other's figures."""
    state = cache / "registry"
    log = state / "registry.log"
    with locked(cache / "bench.lock"):
        log.unlink(missing_ok=True)
        options = RegistryServerOptions(state, binaries() / "registry")
        with RegistryServer(options) as server, CountingProxy(server.port) as proxy:
            yield Registry(proxy, log)
