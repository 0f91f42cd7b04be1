#!/usr/bin/env python3
"""Winning tickets and their controls, level by level: the runs of an imp experiment of run.py as a Markdown table.

    tests/bench/accuracy/tickets.py imp-lenet [--row imp] [--loss 1]

Accuracies are those of the last round of each run on the test set: mean ± standard deviation over seeds, in percent. Below
the table stands, for each kind of run, the density of the first level that is at least --loss percentage points worse than the
dense run of the same seed, as mean ± standard deviation of its level over seeds. Reads own and recorded results.
"""

import argparse
import collections
import statistics
import sys

import run

KINDS = ("ticket", "reinit", "random")


def levels_of(result):
    """{kind: {level: (density, accuracy)}}, and the accuracy of the dense run."""
    levels = collections.defaultdict(dict)
    dense = None
    for one in result["runs"]:
        kind, _, level = one["name"].partition("-")
        if kind == "dense":
            dense = one["last_metric"]
        else:
            levels[kind][int(level)] = (one["density"], one["last_metric"])
    return levels, dense


def first_worse(levels, dense, loss):
    """The first level that lost so much, and its density; nothing when none did."""
    for level in sorted(levels):
        density, accuracy = levels[level]
        if accuracy <= dense - loss / 100:
            return level, density
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment")
    parser.add_argument("--row", default="imp")
    parser.add_argument("--loss", type=float, default=1, help="percentage points")
    arguments = parser.parse_args()
    results = [r for r in run.current_results(arguments.experiment) if r["row"] == arguments.row and "runs" in r]
    if not results:
        sys.exit(f"no results of {arguments.experiment}, row {arguments.row}")
    parsed = [levels_of(result) for result in results]
    kinds = [kind for kind in KINDS if parsed[0][0].get(kind)]
    print(f"{len(results)} seeds; dense: {run.spread([dense for _, dense in parsed], 100, 2)} %")
    print("| level | density | " + " | ".join(kinds) + " |")
    print("| --- | --- |" + " --- |" * len(kinds))
    for level in sorted(parsed[0][0]["ticket"]):
        density = statistics.mean(levels["ticket"][level][0] for levels, _ in parsed)
        cells = [run.spread([levels[kind][level][1] for levels, _ in parsed], 100, 2) for kind in kinds]
        print(f"| {level} | {100 * density:.1f} % | " + " | ".join(cells) + " |")
    for kind in kinds:
        found = [first_worse(levels[kind], dense, arguments.loss) for levels, dense in parsed]
        known = [one for one in found if one is not None]
        if not known:
            print(f"{kind}: no level is {arguments.loss:g} points worse")
            continue
        print(f"{kind}: {arguments.loss:g} points worse from level {run.spread([level for level, _ in known], 1, 1)} on, density "
              f"{run.spread([density for _, density in known], 100, 1)} %"
              + (f"; never in {len(found) - len(known)} of {len(found)} seeds" if len(known) < len(found) else ""))


if __name__ == "__main__":
    main()
