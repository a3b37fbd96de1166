"""How often a command looks for garbage: each time it looks over all that a build keeps, a node for each file.

Runs commands in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys

_COUNT = """\
import gc
from imagewright.cli.main import main

assert main(["version"], {}) == 0
seen = []
gc.callbacks.append(lambda phase, info: seen.append(info) if phase == "start" else None)
kept = [[] for _ in range(100_000)]
print(len(seen))
"""


def test_a_hundred_thousand_objects_are_looked_over_ten_times() -> None:
    done = subprocess.run([sys.executable, "-c", _COUNT], check=True, capture_output=True, text=True)
    assert 0 < int(done.stdout.splitlines()[-1]) <= 11  # of the interpreter's own choice: more than 140
