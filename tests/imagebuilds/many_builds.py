"""Many builds one after another in one executor Pod, which only a small archive and lines of JSON pass into and out of.

A program for the executor image's own Python, with nothing but the standard library: it is sent there by
``test_operator_cases``. Standard input is a tar, unpacked to ``FOLDER``; in it, ``builds.json`` is a list of the builds,
each ``{"name": …, "flags": […]}``. Each build's end is a line ``{"name": …, "code": …, "log": …}`` on standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile

FOLDER = "/kaniko/cases"  # the engine's own: no build replaces it
EXECUTOR = "/kaniko/executor"


def main() -> None:
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        archive.extractall(FOLDER, filter="fully_trusted")
    with open(f"{FOLDER}/builds.json", encoding="utf-8") as file:
        builds = json.load(file)
    for build in builds:
        done = subprocess.run([EXECUTOR, *build["flags"]], capture_output=True, check=False)
        log = done.stderr.decode("utf-8", "replace")
        print(json.dumps({"name": build["name"], "code": done.returncode, "log": log}), flush=True)


if __name__ == "__main__":
    main()
