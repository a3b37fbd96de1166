"""Many builds one after another in one executor Pod, which only a small archive and lines of JSON pass into and out of.

A program for the executor image's own Python: it is sent there by ``test_operator_cases``. Standard input is a tar,
unpacked to ``FOLDER``; in it, ``builds.json`` is a list of the builds, each ``{"name": …, "flags": […]}``. Each build's
end is a line ``{"name": …, "code": …, "log": …, "seconds": …}`` on standard output. A build is a process forked from
this one, which has imported the engine once for all: that is most of what a small build's start takes.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
import tempfile
import time
from typing import NoReturn

FOLDER = "/kaniko/cases"  # the engine's own: no build replaces it


def main() -> None:
    from imagewright.cli.main import executor

    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        archive.extractall(FOLDER, filter="fully_trusted")
    with open(f"{FOLDER}/builds.json", encoding="utf-8") as file:
        builds = json.load(file)

    def build(flags: list[str], log: int) -> NoReturn:
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = executor(flags, os.environ)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    for each in builds:
        begin = time.monotonic()
        with tempfile.TemporaryFile(dir=FOLDER) as log:
            child = os.fork()
            if child == 0:
                build(each["flags"], log.fileno())
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            log.seek(0)
            text = log.read().decode("utf-8", "replace")
        result = {"name": each["name"], "code": code, "log": text, "seconds": round(time.monotonic() - begin, 2)}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
