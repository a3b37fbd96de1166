"""The arguments of ``scripts/quickstart``. Imports the standard library only: help works before anything is installed.

I/O: prints the help, or what is wrong with the arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

WAYS = ("kind", "k3d", "minikube", "k3s", "own")
_DESCRIPTION = """From nothing to a pushed image in a cluster: builds the project's images with the project's engine,
installs the operator, and runs an example. It takes the quickest way to a cluster that the machine offers: the one that
is given, one by kind, k3d, minikube or k3s, or one of its own, named by IMAGEWRIGHT_CLUSTER=NAME:N (quickstart:1)."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; ends the process where it is invalid, or asks for help."""
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=_DESCRIPTION)
    parser.add_argument("--kubeconfig", metavar="FILE", help="use this cluster instead of starting one")
    parser.add_argument("--registry", metavar="HOST/REPO", help="where its images go; needed with --kubeconfig")
    parser.add_argument("--insecure", action="store_true", help="the registry speaks plain HTTP")
    parser.add_argument("--mirror", metavar="HOST", default="", help="pull Docker Hub's images from there")
    parser.add_argument(
        "--with",
        dest="way",
        choices=WAYS,
        default="",
        help="how to get a cluster; if not given, the one that it has started, or the first that works",
    )
    parser.add_argument("--down", action="store_true", help="stop and remove what quickstart started, nothing else")
    given = parser.parse_args(arguments)
    if bool(given.kubeconfig) != bool(given.registry) and not given.down:
        parser.error("--kubeconfig and --registry belong together")
    if given.way and given.kubeconfig:
        parser.error("--with and --kubeconfig are two ways: leave one out")
    return given


if __name__ == "__main__":
    parse(sys.argv[1:])
