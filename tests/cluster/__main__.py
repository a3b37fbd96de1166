"""The command line of the test cluster: ``PYTHONPATH=tests python -m cluster up|down|status|kubectl|...``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from cluster.binaries import binaries
from cluster.lifecycle import down, up
from cluster.places import PRIVATE_REGISTRY_PORT, REGISTRY_PORT, ClusterError, Places, places_from_environment
from cluster.processes import Processes

SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "thaw": signal.SIGCONT, "terminate": signal.SIGTERM}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster", description="A one-node Kubernetes cluster for tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start it; started already, start again what has ended")
    commands.add_parser("down", help="stop it and remove all that it made but for the caches")
    commands.add_parser("status", help="each component and how it is")
    commands.add_parser("build", help="build its programs, once, and print their folder")
    commands.add_parser("kubectl", help="kubectl, as the administrator", add_help=False)
    for name in (*SIGNALS, "start"):
        commands.add_parser(name, help=f"{name} one component").add_argument("component")
    # kubectl's own options are its own: argparse would take those that come first for ours.
    ours, rest = (arguments[:1], arguments[1:]) if arguments[:1] == ["kubectl"] else (arguments, [])
    given = parser.parse_args(ours)
    places = places_from_environment()
    match given.command:
        case "up":
            up(places)
            status(places)
        case "down":
            down(places)
        case "status":
            return status(places)
        case "build":
            print(binaries())
        case "kubectl":
            program = str(binaries() / "kubectl")
            os.execv(program, [program, f"--kubeconfig={places.kubeconfig}", *rest])
        case "start":
            Processes(places).start(given.component)
        case name:
            Processes(places).signal(given.component, SIGNALS[name])
    return 0


def status(places: Places) -> int:
    """Print how each component is; 1 when one doesn't run."""
    found = Processes(places).status()
    for name, process in found.items():
        word = "frozen" if process.frozen else "running" if process.running else f"ended with {process.exit_code}"
        print(f"{name:24} {word}")
    print(f"KUBECONFIG={places.kubeconfig}")
    print(f"registry={places.node_address}:{REGISTRY_PORT} (http)")
    print(f"private registry={places.node_address}:{PRIVATE_REGISTRY_PORT} (https, {places.pki / 'ca.crt'})")
    return 0 if found and all(process.running for process in found.values()) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ClusterError as problem:
        sys.exit(f"cluster: {problem}")
