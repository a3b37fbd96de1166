"""``imagewright push``, like kaniko's subcommand: pushes an image from an archive or an OCI layout.

Reads the archive or layout, talks to registries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

from imagewright.cli.arguments import Arguments, parse
from imagewright.cli.command import Command, Flag, connecting
from imagewright.cli.display import open_display
from imagewright.cli.flags import BUILD_FLAGS, REGISTRY_FLAGS
from imagewright.cli.request import build_request
from imagewright.engine.output.destinations import read_destinations
from imagewright.engine.output.push import open_stored_image, push_image
from imagewright.engine.output.resultfiles import references_with_digest, write_digests
from imagewright.engine.registries import open_registries
from imagewright.errors import UsageError
from imagewright.oci.platform import Platform, host_platform

_TAKEN = frozenset(
    """destination digest-file image-name-with-digest-file image-name-tag-with-digest-file custom-platform
    verbosity log-format log-timestamp""".split()
) | frozenset(flag.name for flag in REGISTRY_FLAGS)
FLAGS: tuple[Flag, ...] = tuple(flag for flag in BUILD_FLAGS if flag.name in _TAKEN)


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Push the image at the given path; prints ``name:tag@digest`` for each destination.

    Raises:
        ImagewrightError: no image, no destination, a registry's refusal.
    """
    arguments = parse(words, environment, FLAGS, takes_words=True)
    if len(arguments.words) != 1:
        raise UsageError(
            "exactly one archive or layout is required", hint="Run imagewright push image.tar --destination=REFERENCE."
        )
    request = build_request(Arguments(arguments.values), environment)
    destinations = read_destinations(request)
    platform = Platform.parse(request.plan.platform) if request.plan.platform else host_platform()
    image, blobs = open_stored_image(arguments.words[0], platform)
    with closing(open_display(arguments, environment)) as display:
        pushed = push_image(open_registries(request, environment).pusher, image, destinations, blobs, display)
    write_digests(destinations, pushed, image.manifest.digest)
    for reference in references_with_digest(pushed, image.manifest.digest):
        print(reference)
    return 0


COMMANDS = {"push": Command("imagewright push ARCHIVE|LAYOUT", FLAGS, connecting(run))}
