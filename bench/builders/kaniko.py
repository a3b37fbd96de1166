"""kaniko's executor, which the registry of Go modules doesn't have.

Runs ``go`` to ask for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile

from cluster.toolchain import find_go

from bench.builders.model import LeftOut

MODULE = "github.com/osscontainertools/kaniko"
VERSION = "v1.28.3"


def kaniko() -> LeftOut:
    """Left out, with what the registry of Go modules answers. There is no other source that a test may build from."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(find_go()), "mod", "download", "-json", f"{MODULE}@{VERSION}"]
        environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=environment)
    try:
        error = json.loads(done.stdout).get("Error", "")
    except ValueError:
        error = done.stderr
    last = str(error).strip().rpartition("\n")[2].strip()
    if not last:
        return LeftOut(f"{MODULE}@{VERSION} can be built now, but the bench can't run it yet")
    return LeftOut(f"{MODULE}@{VERSION} can't be built from the registry of Go modules: {last}")
