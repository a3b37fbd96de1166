"""The flags of a build: kaniko's names and meanings, as tables by theme.

No I/O. Read by ``cli.arguments``; the tables are also what ``--help`` and docs/flags.md show.
"""

from imagewright.cli.flags.cache import CACHE_FLAGS
from imagewright.cli.flags.docker import DOCKER_FLAGS
from imagewright.cli.flags.kaniko import KANIKO_FLAGS
from imagewright.cli.flags.logs import LOG_FLAGS
from imagewright.cli.flags.model import Flag, Kind
from imagewright.cli.flags.output import OUTPUT_FLAGS
from imagewright.cli.flags.registry import PULL_FLAGS, REGISTRY_FLAGS
from imagewright.cli.flags.source import SOURCE_FLAGS

# By what they are about, as the documentation shows them.
THEMES: tuple[tuple[str, tuple[Flag, ...]], ...] = (
    ("What is built", SOURCE_FLAGS),
    ("What becomes of it", OUTPUT_FLAGS),
    ("Caches", CACHE_FLAGS),
    ("Registries", REGISTRY_FLAGS),
    ("What is said meanwhile", LOG_FLAGS),
    ("Without meaning here", KANIKO_FLAGS),
)
BUILD_FLAGS: tuple[Flag, ...] = tuple(flag for _, flags in THEMES for flag in flags)
# Those of the commands ``build`` and ``plan``; the others are all that kaniko's executor has.
COMMAND_FLAGS: tuple[Flag, ...] = (*BUILD_FLAGS, *DOCKER_FLAGS)

__all__ = ["BUILD_FLAGS", "COMMAND_FLAGS", "DOCKER_FLAGS", "PULL_FLAGS", "THEMES", "Flag", "Kind"]
