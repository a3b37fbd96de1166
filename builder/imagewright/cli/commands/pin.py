"""``imagewright pin``: adds to the images that Dockerfiles name the digests that their tags have now.

Reads and writes Dockerfiles, asks registries.
"""

from __future__ import annotations

import functools
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from imagewright.cli.arguments import parse
from imagewright.cli.command import Command, Flag, Kind, connecting
from imagewright.cli.flags import BUILD_FLAGS, PULL_FLAGS
from imagewright.cli.request import build_request
from imagewright.engine.registries import open_registries
from imagewright.errors import ImagewrightError, Reason, UsageError
from imagewright.pin.pinning import PinResult, pin
from imagewright.store.files import replacing

NOT_PINNED = 3  # the exit code of --check if something would change, or has to be changed by hand
MAX_BYTES = 16 << 20  # of a Dockerfile
_STANDARD_INPUT = "-"
_DEFAULT = "Dockerfile"

PIN_FLAGS: tuple[Flag, ...] = (
    Flag("update", Kind.BOOLEAN, "", "resolve images again that already have a digest"),
    Flag("check", Kind.BOOLEAN, "", "change nothing; exit with 3 if something would change"),
)
FLAGS: tuple[Flag, ...] = (*PIN_FLAGS, *(flag for flag in BUILD_FLAGS if flag.name in PULL_FLAGS))


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Pin the given files, by default ``Dockerfile``; the exit code. Nothing is written before all images are resolved.

    Raises:
        ImagewrightError: invalid arguments, an unreadable Dockerfile, an image that can't be resolved.
    """
    arguments = parse(words, environment, FLAGS, takes_words=True)
    request = build_request(arguments, environment)
    resolve = functools.cache(open_registries(request, environment).puller.digest)
    paths = list(dict.fromkeys(arguments.words)) or [_DEFAULT]
    check = arguments.flag("check")
    results = [(path, pin(_read(path), _name(path), resolve, update=arguments.flag("update"))) for path in paths]
    for path, pinned in results:
        _tell(path, pinned, would=check)
        if path == _STANDARD_INPUT and not check:
            sys.stdout.buffer.write(pinned.content)
            sys.stdout.buffer.flush()
        elif pinned.changes and not check:
            _write(path, pinned.content)
    unpinned = any(pinned.changes or any(image.fixable for image in pinned.unpinned) for _, pinned in results)
    return NOT_PINNED if check and unpinned else 0


def _name(path: str) -> str:
    return "standard input" if path == _STANDARD_INPUT else path


def _read(path: str) -> bytes:
    try:
        if path == _STANDARD_INPUT:
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImagewrightError(
            f"cannot read {path}: {error.strerror}",
            reason=Reason.DOCKERFILE_NOT_FOUND,
            hint="Name Dockerfiles, or run it where there is a file called Dockerfile.",
        ) from error
    if len(content) > MAX_BYTES:
        raise UsageError(f"cannot read {path}: larger than {MAX_BYTES >> 20} MiB", hint="Name a Dockerfile.")
    return content


def _tell(path: str, pinned: PinResult, *, would: bool) -> None:
    """Print a line for each image: to standard error if standard output has the file."""
    out = sys.stderr if path == _STANDARD_INPUT else sys.stdout
    for change in pinned.changes:
        verb = "would become" if would else "is now"
        print(f"{change.location}: {change.instruction} {change.old} {verb} {change.new}", file=out)
    for image in pinned.unpinned:
        print(f"{image.location}: {image.instruction} {image.written} is not pinned: {image.why}", file=sys.stderr)


def _write(path: str, content: bytes) -> None:
    """Replace the file atomically, keeping its mode and, where allowed, its owner.

    Raises:
        ImagewrightError
    """
    try:
        info = os.stat(path)
        with replacing(path) as file:
            with suppress(PermissionError):
                os.fchown(file.fileno(), info.st_uid, info.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(info.st_mode))  # before there is anything to read
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ImagewrightError(
            f"cannot write {path}: {error.strerror}",
            reason=Reason.OUTPUT_FAILED,
            hint="Make the file and its directory writable; the file was not changed.",
        ) from error


COMMANDS = {"pin": Command("imagewright pin [DOCKERFILE…]", FLAGS, connecting(run))}
