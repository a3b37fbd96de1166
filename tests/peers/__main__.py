"""``python -m peers build FOLDER``: what BuildKit makes of a Dockerfile, and what the engine does."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from cluster.places import ClusterError
from peers.case import Case
from peers.station import station


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m peers", description=__doc__)
    parser.add_argument("command", choices=["build"])
    parser.add_argument("folders", nargs="+", type=Path, help="folders with a Dockerfile and a case.toml")
    parser.add_argument("--ours", action="store_true", help="with the engine, too")
    given = parser.parse_args()
    cases = [Case(folder.resolve()) for folder in given.folders]
    with (
        tempfile.TemporaryDirectory(prefix="imagewright-peers-") as scratch,
        station(Path(scratch), cases, with_buildkit=True) as here,
    ):
        for case in cases:
            print(f"=== {case.folder.name}: BuildKit\n{here.theirs(case)}")
            if given.ours:
                print(f"=== {case.folder.name}: Imagewright\n{here.ours(case)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ClusterError as problem:
        sys.exit(f"peers: {problem}")
