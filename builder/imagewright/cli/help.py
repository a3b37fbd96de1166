"""The text of ``--help``, made from the table of flags.

Pure; no I/O. Called by ``cli.commands``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from imagewright.cli.flags import Flag, Kind

_OVERVIEW = """imagewright builds container images without a daemon and without privilege.

usage: imagewright COMMAND [FLAGS]

  build     build a Dockerfile and push the image (the flags are those of kaniko's executor)
  plan      print what a build would execute
  lint      show what is legal in a Dockerfile and probably a mistake
  pin       give the images that a Dockerfile names the digests of their tags
  push      push an image that a build left in an archive or a layout
  warm      keep base images in a folder that builds take them from
  login     write a registry's login into docker's config.json
  execute   run the request in the environment (what the operator's Pods do)
  probe     say which commit that request's source is at (what the operator's Pods do)
  version   print the version

`imagewright build --help` lists the flags."""
_WIDTH = 100


def overview() -> str:
    """What there is."""
    return _OVERVIEW


def command_help(command: str, flags: Sequence[Flag]) -> str:
    """A command's flags. ``command`` is as it is typed, and may show what else it takes."""
    lines = [f"usage: {command} [FLAGS]", ""]
    for flag in flags:
        lines.append("  " + _usage(flag))
        note = f"{flag.help} (${flag.environment})" if flag.environment else flag.help
        lines.extend(textwrap.wrap(note, _WIDTH, initial_indent="      ", subsequent_indent="      "))
    lines += ["", "A list flag may be given many times. Booleans are --flag or --flag=false."]
    return "\n".join(lines)


def _usage(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else ""
    return f"{short}--{flag.name}" + ("" if flag.kind is Kind.BOOLEAN else f" {flag.value}")
