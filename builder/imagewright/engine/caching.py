"""The layer cache of a build: what the request asks for, and what is said of it at the end.

No I/O of its own. Called by ``engine.build``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from imagewright.cache.layers import LayerCache, Settings
from imagewright.contract.request import BuildRequest
from imagewright.contract.result import StepResult
from imagewright.engine.cachestores import open_store
from imagewright.reference import Reference
from imagewright.registry.client import RegistryClient


def open_cache(request: BuildRequest, client: RegistryClient, warn: Callable[[str], None]) -> LayerCache | None:
    """The cache that a request asks for, None without one.

    Raises:
        UsageError: it names no repository and no folder.
    """
    wanted = request.cache
    if wanted is None:
        return None
    if request.image.ignore_paths:
        # Later steps see what is there, and no layer has it: neither does a key.
        warn(
            "with --ignore-path nothing is cached: what a RUN leaves at such a path is in no layer, and later steps see it"
        )
        return None
    # A build is explained by the last one of the same target for the same destinations.
    names = [Reference.parse(text).name for text in request.output.destinations]
    build = json.dumps([names, request.plan.target, request.plan.dockerfile, request.context.directory])
    return LayerCache(open_store(wanted.repository, client), Settings(wanted.ttl_s, wanted.push, build), warn)


def tell_of_cache(name: str, results: Sequence[StepResult], say: Callable[[str], None], *, each: bool) -> None:
    """How many steps were cached; with ``each``, every step with why it was not (``--explain-cache``)."""
    asked = [step for step in results if step.cached or step.cache_miss]
    if not asked:
        return
    say(f"{sum(step.cached for step in asked)} of {len(asked)} steps were in the cache {name}")
    for step in asked if each else ():
        say(f"  {step.name}: {'cached' if step.cached else step.cache_miss}")
