"""The command line of the bench, and which workloads it names.

No I/O.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench.builders.table import BUILDERS
from bench.workloads import Scale, Workload, named_only, workloads

_DOES = (
    "Builds workloads with every builder, alternating, and prints times, ratios to the fastest peer and what each took."
)
_EXAMPLES = """\
examples:
  scripts/bench w9 --builder imagewright --runs 1            one workload with one builder, once
  scripts/bench w2 w8 --json f.json --picture f.svg          w8 is w8-w1 to w8-w4
  scripts/bench w2 --builder imagewright --runs 1 --profile  where the time went
  scripts/bench --small --runs 1                             whether all of it works, in minutes
"""


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="scripts/bench",
        description=_DOES,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("workload", nargs="*", help="by name, or by its first part; all w… without (--list)")
    found.add_argument("--builder", action="append", choices=list(BUILDERS), help="only this one (repeatable)")
    found.add_argument("--runs", type=int, default=3, help="of each builder (3; the median counts)")
    found.add_argument("--profile", action="store_true", help="print where each build's time went")
    found.add_argument("--limits", action="store_true", help="also measure writing, inflating, hashing and tar")
    found.add_argument("--small", action="store_true", help="tiny workloads, to try the bench; figures say nothing")
    found.add_argument("--list", action="store_true", help="print the workloads")
    found.add_argument("--json", metavar="FILE", help="write every figure there")
    found.add_argument("--markdown", metavar="FILE", help="write the table there too")
    found.add_argument("--picture", metavar="FILE", help="write an SVG of the ratios there")
    return found


class UnknownWorkload(Exception):
    """Its name."""


def chosen_by(names: Sequence[str], scale: Scale) -> list[Workload]:
    """Those that are named, by their whole name or what is before its hyphen; w6 is only itself.

    Raises:
        UnknownWorkload
    """
    usual, others = workloads(scale), named_only(scale)
    by_name: dict[str, list[Workload]] = {}
    for one in usual:
        by_name.setdefault(one.name.partition("-")[0], []).append(one)
    by_name |= {one.name: [one] for one in (*usual, *others)}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise UnknownWorkload(f'no workload "{unknown[0]}": --list prints them')
    wanted = [one for name in names for one in by_name[name]]
    return [one for one in (*usual, *others) if one in wanted] if names else list(usual)
