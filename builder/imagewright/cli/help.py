"""The text of ``--help``, made from the table of flags.

No I/O.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from imagewright.cli.command import Flag, Kind

_OVERVIEW = """imagewright builds container images without a daemon and without privilege.

usage: imagewright COMMAND [FLAGS]

  build     build a Dockerfile and push the image (the flags are those of kaniko's executor)
  plan      print what a build would execute
  lint      report probable mistakes in a Dockerfile
  pin       add digests to the images that a Dockerfile names
  push      push an image from an archive or an OCI layout
  warm      download base images to a directory that builds read them from
  login     write a registry's login into docker's config.json
  execute   run the build request in the environment (run by the operator's Pods)
  probe     resolve the commit of that request's source (run by the operator's Pods)
  version   print the version

Run `imagewright build --help` for the flags of a command."""
_WIDTH = 100


def overview() -> str:
    """The list of commands."""
    return _OVERVIEW


def command_help(command: str, flags: Sequence[Flag]) -> str:
    """A command's flags. ``command`` is how it is typed, with its positional arguments."""
    lines = [f"usage: {command} [FLAGS]", ""]
    for flag in flags:
        lines.append("  " + _usage(flag))
        note = f"{flag.help} (${flag.environment})" if flag.environment else flag.help
        lines.extend(textwrap.wrap(note, _WIDTH, initial_indent="      ", subsequent_indent="      "))
    lines += ["", "Flags that take a list may be repeated. Booleans are --flag or --flag=false."]
    return "\n".join(lines)


def _usage(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else ""
    return f"{short}--{flag.name}" + ("" if flag.kind is Kind.BOOLEAN else f" {flag.value}")
