"""Makes a release and publishes it: what ``scripts/release`` runs.

Wheel, sdist, images for this machine's architecture, chart, install.yaml, checksums and notes go to a folder; images
and chart are then pushed to a registry.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.places import ClusterError
from releasing.artifacts import TARGETS, Registry, Release, make, push
from releasing.checkout import ROOT, check, notes


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/release", description=__doc__)
    parser.add_argument("version", metavar="VERSION", help="that of pyproject.toml, for example 0.1.0")
    parser.add_argument("--registry", metavar="HOST/REPO", required=True, help="where images and chart go")
    parser.add_argument("--dry-run", action="store_true", help="make the files, and only say what would be pushed")
    parser.add_argument("--insecure", action="store_true", help="registry and mirror may speak plain HTTP")
    parser.add_argument("--mirror", metavar="HOST", default="", help="pull Docker Hub's images from there")
    given = parser.parse_args(arguments)
    check(given.version)
    text = notes(given.version)
    mirror: tuple[str, ...] = (f"--registry-mirror={given.mirror}",) if given.mirror else ()
    if given.mirror and given.insecure:
        mirror += (f"--insecure-registry={given.mirror}",)
    registry = Registry(given.registry, given.insecure, mirror)
    release = Release(given.version, ROOT / "dist" / given.version, registry)
    make(release, text)
    show(release.dist)
    names = [*map(release.image, TARGETS), f"{registry.charts}/imagewright:{given.version}"]
    pushed = names if given.dry_run else push(release)
    print("Would push:" if given.dry_run else "Pushed:")
    for name in pushed:
        print(f"  {name}")
    return 0


def show(dist: Path) -> None:
    print(f"Made in {dist.relative_to(ROOT)}:")
    for file in sorted(file for file in dist.iterdir() if file.is_file()):
        print(f"  {file.name}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ClusterError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
