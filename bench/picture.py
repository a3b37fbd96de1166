"""The figures as one picture: each builder's time relative to the fastest peer. ``python -m bench.picture JSON SVG``.

Reads and writes a file. Needs matplotlib, which is in the dependency group "bench" alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.figures import Figures, ours_first

_WIDTH = 0.8  # of all bars of a workload
_CUT = 4.0  # ratios above are cut, and written at the bar


def draw(figures: Figures, path: Path) -> None:
    """Horizontal bars, a group for each workload; 1 is the fastest peer."""
    import matplotlib as mpl  # noqa: PLC0415 -- only where a picture is wanted

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.family": "sans-serif"}
    compared = {name: results for name, results in figures.workloads.items() if results.fastest_peer}
    builders = ours_first({builder for results in compared.values() for builder in results.builders})
    height = _WIDTH / max(1, len(builders))
    figure, axes = plt.subplots(figsize=(8, 1 + 0.25 * max(1, len(compared)) * (len(builders) + 1)))
    for number, builder in enumerate(builders):
        places, ratios = [], []
        for row, results in enumerate(compared.values()):
            if builder in results.builders and (ratio := results.ratio(builder)) is not None:
                places.append(row + (number - (len(builders) - 1) / 2) * height)
                ratios.append(ratio)
        bars = axes.barh(places, [min(ratio, _CUT) for ratio in ratios], height, label=builder)
        axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=2, fontsize="x-small")
    axes.axvline(1.0, color="black", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(compared)), [f"{name}: {results.says}" for name, results in compared.items()])
    axes.tick_params(axis="y", labelsize="x-small")
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlim(0, _CUT * 1.1)
    axes.set_xlabel("time relative to the fastest peer")
    axes.set_title(figures.machine, fontsize="small")
    axes.legend(fontsize="x-small", loc="lower right", bbox_to_anchor=(1, 1))
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(Figures.of_json(json.loads(Path(sys.argv[1]).read_text())), Path(sys.argv[2]))
