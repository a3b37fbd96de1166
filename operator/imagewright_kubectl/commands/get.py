"""``get``: ImageBuilds as kubectl get shows them.

I/O: asks the API server, writes to standard output.
"""

from __future__ import annotations

import argparse
import sys

from imagewright.errors import UsageError
from imagewright_kubectl import printing
from imagewright_kubectl.kubeconfig import connect
from imagewright_kubectl.options import config_flags
from imagewright_kubectl.printing import Json


def run(options: argparse.Namespace) -> int:
    """Print them; 0."""
    if options.name and (options.all_namespaces or options.selector):
        flag = "--all-namespaces" if options.all_namespaces else "--selector"
        raise UsageError(
            f'name "{options.name}" cannot be combined with {flag}',
            hint="Use a name with -n, or the flag without a name.",
        )
    connection = connect(config_flags(options))
    namespace = "" if options.all_namespaces else connection.namespace
    if options.output in printing.FORMATS:
        if options.name:
            printing.show(connection.api.imagebuild(namespace, options.name), options.output)
        else:
            printing.show_all(connection.api.imagebuilds(namespace, options.selector), options.output)
        return 0
    table = connection.api.table(namespace, options.name, options.selector)
    if not table["rows"]:
        where = f" in namespace {namespace}" if namespace else ""
        print(f"No ImageBuilds found{where}.", file=sys.stderr)
        return 0
    print(_columns(table, wide=options.output == "wide", namespaces=options.all_namespaces))
    return 0


def _columns(table: Json, *, wide: bool, namespaces: bool) -> str:
    """The columns of the resource's definition; those with a priority only for -o wide."""
    places = [place for place, one in enumerate(table["columnDefinitions"]) if wide or not one.get("priority")]
    head = [table["columnDefinitions"][place]["name"].upper() for place in places]
    rows = [[_cell(row["cells"][place]) for place in places] for row in table["rows"]]
    if namespaces:
        head = ["NAMESPACE", *head]
        rows = [
            [row["object"]["metadata"]["namespace"], *cells] for row, cells in zip(table["rows"], rows, strict=True)
        ]
    return printing.columns([head, *rows])


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return " ".join(text.split())
