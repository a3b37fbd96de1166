"""Flags of the layer cache become its settings.

No I/O. Called by ``cli.request``.
"""

from __future__ import annotations

from imagewright.cli.arguments import Arguments
from imagewright.contract import DEFAULT_CACHE_TTL_S
from imagewright.contract.request import CacheSettings
from imagewright.dockerfile.duration import parse_duration
from imagewright.errors import UsageError
from imagewright.reference import Reference

# Of no use without --cache.
_NEEDING = ("cache-repo", "cache-ttl", "cache-copy-layers", "cache-run-layers", "no-push-cache", "explain-cache")


def cache_settings(arguments: Arguments) -> CacheSettings | None:
    """The layer cache that a command line asks for, None without --cache.

    Raises:
        UsageError: no repository is named and none can be inferred, a time that is none.
        ImagewrightError: reason ``ReferenceInvalid``, for the destination.
    """
    ttl_s = _ttl(arguments.text("cache-ttl"))
    if not arguments.flag("cache"):
        return None
    return CacheSettings(
        repository=arguments.text("cache-repo") or _inferred(arguments),
        ttl_s=ttl_s,
        copy_layers=arguments.is_on("cache-copy-layers"),
        run_layers=arguments.is_on("cache-run-layers"),
        push=not arguments.flag("no-push-cache"),
        explain=arguments.flag("explain-cache"),
    )


def _inferred(arguments: Arguments) -> str:
    destinations = arguments.all("destination")
    if not destinations:
        raise UsageError(
            "--cache: there is no destination to keep the cache beside",
            hint="Name a repository with --cache-repo, or a folder with --cache-repo=oci:FOLDER.",
        )
    return f"{Reference.parse(destinations[0]).name}/cache"


def _ttl(text: str) -> int:
    if not text:
        return DEFAULT_CACHE_TTL_S
    nanoseconds = parse_duration(text)
    if nanoseconds is None or nanoseconds < 0:
        raise UsageError(f"--cache-ttl={text}: not a duration", hint="Write a number and a unit: 6h, 336h, 30m.")
    # What is not zero, which is any age, is at least a second.
    return max(1, nanoseconds // 1_000_000_000) if nanoseconds else 0


def unused(arguments: Arguments) -> list[str]:
    """A line where flags of the cache are given and the cache is not asked for."""
    given = [f"--{name}" for name in _NEEDING if name in arguments.values]
    return [f"{', '.join(given)}: of no use without --cache"] if given and not arguments.flag("cache") else []
