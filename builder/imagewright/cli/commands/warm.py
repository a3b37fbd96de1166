"""``imagewright warm``, in the executor's image ``/kaniko/warmer``: downloads base images for later builds.

Pulls from registries and writes the cache directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from imagewright.cli.arguments import Arguments, deprecation_warnings, parse
from imagewright.cli.command import Command, Flag, Kind, connecting
from imagewright.cli.display import open_display
from imagewright.cli.flags import BUILD_FLAGS, PULL_FLAGS
from imagewright.cli.request import build_request, check_environment
from imagewright.contract.sources import DirectorySource
from imagewright.engine import build as engine
from imagewright.engine.pull.layouts import warm
from imagewright.engine.registries import open_registries
from imagewright.errors import UsageError
from imagewright.oci.platform import Platform, host_platform
from imagewright.plan.origins import ImageBase, ImageOrigin
from imagewright.progress.display import Display
from imagewright.reference import Reference
from imagewright.streams import own_descriptor

_DEFAULT_CACHE = "/cache"
_KEPT = "what is there is compared with the registry, and downloaded again only if it is different or damaged"

_WARM_FLAGS: tuple[Flag, ...] = (
    Flag("image", Kind.LIST, "REFERENCE", "an image to download", "i"),
    Flag("cache-dir", Kind.TEXT, "DIR", "where to keep the images (default: /cache)", "c"),
    Flag("dockerfile", Kind.TEXT, "PATH", "a Dockerfile whose base images to download", "d"),
    Flag("force", Kind.BOOLEAN, "", "download again", no_effect=_KEPT),
    Flag("cache-ttl", Kind.TEXT, "DURATION", "maximum age of an image", no_effect=_KEPT),
)
_TAKEN = frozenset("build-arg custom-platform verbosity log-format log-timestamp".split())
FLAGS: tuple[Flag, ...] = (*_WARM_FLAGS, *(flag for flag in BUILD_FLAGS if flag.name in _TAKEN | PULL_FLAGS))


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Download the images.

    Raises:
        ImagewrightError: no image is named, or one can't be pulled; an unwritable directory.
    """
    arguments = parse(words, environment, FLAGS)
    with closing(open_display(arguments, environment)) as display:
        _fill(arguments, environment, display)
    return 0


def _fill(arguments: Arguments, environment: Mapping[str, str], display: Display) -> None:
    for warning in deprecation_warnings(arguments, environment, FLAGS):
        display.warning(warning)
    path = arguments.text("dockerfile")
    folder = arguments.text("cache-dir", _DEFAULT_CACHE)
    values = {
        name: value for name, value in arguments.values.items() if name not in ("cache-dir", "cache-ttl", "image")
    }
    request = build_request(Arguments(values), environment)
    if own_descriptor(request.plan.dockerfile) is None:
        folder_of_file, name = os.path.split(os.path.abspath(request.plan.dockerfile))
        context = replace(request.context, source=DirectorySource(path=folder_of_file))
        plan_settings = replace(request.plan, dockerfile=name)
        request = replace(request, context=context, plan=plan_settings)
    check_environment(request, environment)
    platform = Platform.parse(request.plan.platform) if request.plan.platform else host_platform()
    images = [(Reference.parse(text), platform) for text in arguments.all("image")]
    if path:
        plan = engine.plan(request, environment, display)
        bases = [stage.base for stage in plan.stages]
        origins = [origin for stage in plan.stages for _, origin in stage.origins]
        named = [each for each in (*bases, *origins) if isinstance(each, ImageBase | ImageOrigin)]
        images += [(each.reference, each.platform) for each in named]
    if not images:
        raise UsageError("no image to download", hint="Name images with --image, or a Dockerfile with --dockerfile.")
    warm(open_registries(request, environment).puller, dict.fromkeys(images), folder, display.message)


COMMANDS = {"warm": Command("imagewright warm", FLAGS, connecting(run))}
