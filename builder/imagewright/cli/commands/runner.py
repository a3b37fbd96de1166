"""``imagewright runner``: what the other container of the operator's Pods runs, until the engine sends a command.

Writes nothing itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from imagewright.cli.command import Command, Prepare
from imagewright.contract import RUNNER_SOCKET
from imagewright.errors import UsageError
from imagewright.sandbox.choose import IMAGE_MARKER
from imagewright.sandbox.runner.server import serve_from_container


def runner(words: Sequence[str], environment: Mapping[str, str], prepare: Prepare) -> int:
    """Run the commands of the engine in the Pod's other container, which listens on a socket.

    Raises:
        UsageError: not a container of the executor image, whose ``/`` a build replaces.
    """
    if not os.path.exists(IMAGE_MARKER):
        raise UsageError(
            "cannot run commands here: builds replace the file system of the container that runs them",
            hint="Use the executor image.",
        )
    return serve_from_container(words[0] if words else RUNNER_SOCKET)


COMMANDS = {"runner": Command("imagewright runner [SOCKET]", (), runner)}
