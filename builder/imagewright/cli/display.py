"""The display that ``--verbosity``, ``--log-format``, ``--log-timestamp`` and ``--timings`` select.

All write to standard error.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Mapping, Sequence

from imagewright.cli.arguments import Arguments
from imagewright.errors import UsageError
from imagewright.progress.display import Display, Level
from imagewright.progress.jsonlines import JsonReporter
from imagewright.progress.plain import PlainReporter

_LEVELS = {
    "panic": Level.ERROR,
    "fatal": Level.ERROR,
    "error": Level.ERROR,
    "warn": Level.WARN,
    "warning": Level.WARN,
    "info": Level.INFO,
    "debug": Level.DEBUG,
    "trace": Level.DEBUG,
}


def early_display(words: Sequence[str]) -> Display:
    """The display for errors of the command line itself, which may not parse."""
    wants_json = "--log-format=json" in words or ("--log-format", "json") in itertools.pairwise(words)
    return JsonReporter(sys.stderr, Level.ERROR) if wants_json else PlainReporter(sys.stderr, Level.ERROR)


def open_display(arguments: Arguments, environment: Mapping[str, str]) -> Display:
    """The display that the flags select: a live one on a capable terminal. The caller closes it.

    Raises:
        UsageError: an unknown level or format.
        ImagewrightError: reason ``OutputFailed``, the file of --timings can't be written.
    """
    return with_timings(arguments, _selected(arguments, environment))


def with_timings(arguments: Arguments, display: Display) -> Display:
    """The display, or one around it that also writes the file of --timings.

    Raises:
        ImagewrightError: reason ``OutputFailed``.
    """
    path = arguments.text("timings")
    if not path:
        return display
    # Imported only here, since few builds need it.
    from imagewright.engine.output.resultfiles import check_file  # noqa: PLC0415
    from imagewright.progress.timings import TimedDisplay, program_begin  # noqa: PLC0415

    check_file(path, "--timings")
    return TimedDisplay(display, os.path.abspath(path), program_begin())


def _selected(arguments: Arguments, environment: Mapping[str, str]) -> Display:
    verbosity = arguments.text("verbosity", "info").lower()
    if verbosity not in _LEVELS:
        raise UsageError(f'invalid --verbosity value "{verbosity}"', hint=f"Use one of {', '.join(_LEVELS)}.")
    level = _LEVELS[verbosity]
    log_format = arguments.text("log-format", "color")
    if log_format not in ("text", "color", "json"):
        raise UsageError(f'invalid --log-format value "{log_format}"', hint="Use text, color or json.")
    timestamps = arguments.flag("log-timestamp")
    if log_format == "json":
        return JsonReporter(sys.stderr, level)
    capable = sys.stderr.isatty() and environment.get("TERM", "dumb") != "dumb" and not environment.get("NO_COLOR")
    if log_format == "color" and capable and level is Level.INFO and not timestamps:
        from rich.console import Console  # noqa: PLC0415 -- takes a tenth of all imports; Pods have no terminal

        from imagewright.progress.live import LiveReporter  # noqa: PLC0415

        return LiveReporter(Console(stderr=True), level)
    return PlainReporter(sys.stderr, level, timestamps=timestamps)
