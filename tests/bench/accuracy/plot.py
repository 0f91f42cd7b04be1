#!/usr/bin/env python3
"""Learning curves of an experiment of run.py as an SVG: one panel per density, one line per method.

    tests/bench/accuracy/plot.py fedtiny-table docs/methods/fedtiny.svg

Reads its own and recorded results. A line is the mean over seeds, its band one standard deviation. Rows named
"<method> <density>" go to their density's panel, others (such as "dense") to every panel.
"""

import argparse
import collections
import pathlib
import statistics
import sys

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402  (the backend comes first)

import run  # noqa: E402
import store  # noqa: E402


def arrange_curves(results):
    """{density (and condition) or None: {method: {round: [accuracy of each seed]}}}"""
    panels = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
    for result in results:
        method, density = store.split_row(result["row"])
        for round_number, accuracy in result.get("curve", []):
            panels[density][method][round_number].append(accuracy)
    return panels


def draw(axes, method, curve, color, style):
    rounds = sorted(curve)
    means = [statistics.mean(curve[r]) for r in rounds]
    spread = [statistics.stdev(curve[r]) if len(curve[r]) > 1 else 0.0 for r in rounds]
    axes.plot(rounds, means, label=method, color=color, linestyle=style, linewidth=1.4)
    axes.fill_between(rounds, [m - s for m, s in zip(means, spread)], [m + s for m, s in zip(means, spread)],
                      color=color, alpha=0.07, linewidth=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("output", type=pathlib.Path)
    arguments = parser.parse_args()
    panels = arrange_curves(run.current_results(arguments.experiment))
    if not panels:
        sys.exit(f"no results of {arguments.experiment}; run tests/bench/accuracy/run.py {arguments.experiment} first")
    everywhere = panels.pop(None, {})
    methods = sorted({m for curves in panels.values() for m in curves} | set(everywhere))
    colors = {m: matplotlib.colormaps["tab20"](i % 20) for i, m in enumerate(methods)}
    matplotlib.rcParams["svg.hashsalt"] = "espalier"  # the same results give the same file
    matplotlib.rcParams["svg.fonttype"] = "none"  # letters as letters, not as outlines
    figure, grid = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 3.6), sharey=True, squeeze=False)
    for axes, density in zip(grid[0], sorted(panels, reverse=True)):
        for method, curve in {**everywhere, **panels[density]}.items():
            draw(axes, method, curve, colors[method], "--" if method in everywhere else "-")
        axes.set_title(f"density {density}", fontsize=10)
        axes.set_xlabel("round")
        axes.grid(alpha=0.3)
    grid[0][0].set_ylabel("test accuracy")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=6, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(arguments.output, metadata={"Date": None})


if __name__ == "__main__":
    main()
