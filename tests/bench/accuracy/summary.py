#!/usr/bin/env python3
"""An experiment of run.py in one table: a row per method, a column per density.

    tests/bench/accuracy/summary.py fedtiny-table
    tests/bench/accuracy/summary.py fedtiny-table --against fedtiny    differences, seed by seed

Reads own and recorded results. Accuracies are those of the last round on the test set: mean ± standard deviation over
seeds, in percent. Rows named "<method> <density>[, <condition>]" go to the column of that density and condition, others
(such as "dense") to all columns.
"""

import argparse
import collections
import math
import re
import statistics
import sys

import store


def arrange(results):
    """{method: {column: {seed: result}}}, the columns in the order of the results."""
    table = collections.defaultdict(lambda: collections.defaultdict(dict))
    for result in results:
        match = re.fullmatch(r"(.*?) (0?\.\d+(?:, .*)?)", result["row"])
        method, column = match.groups() if match else (result["row"], None)
        table[method][column][result["seed"]] = result
    columns = list(dict.fromkeys(c for row in table.values() for c in row if c is not None))
    for row in table.values():
        if None in row:
            row.update({column: row[None] for column in columns})
            del row[None]
    return table, columns


def spread(values):
    """Mean ± standard deviation in percent, and how many when some are missing."""
    if not values:
        return ""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


def accuracies(runs):
    return {seed: run["last"] for seed, run in runs.items() if "failure" not in run}


def cell(runs, reference):
    found = accuracies(runs)
    values = [found[s] - reference[s] for s in found if s in reference] if reference else list(found.values())
    failed = len(runs) - len(found)
    return spread(values) + (f" ({failed} failed)" if failed else "")


def mean_of(runs, key, digits):
    values = [run[key] for run in runs.values() if not math.isnan(run.get(key, math.nan))]
    return f"{statistics.mean(values):.{digits}f}" if values else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("--against", metavar="METHOD", help="its accuracy at the same seed and density is taken off")
    arguments = parser.parse_args()
    table, columns = arrange(store.read(arguments.experiment))
    if arguments.against and arguments.against not in table:
        parser.error(f"expected a method out of {', '.join(table) or 'none (no results)'}; found {arguments.against}")
    if not table:
        sys.exit(f"no results of {arguments.experiment}; run tests/bench/accuracy/run.py {arguments.experiment} first")
    kinds = [(c, "") for c in columns] + [(c, "FLOPs of dense, ") for c in columns] + [
        (c, "MB a round, ") for c in columns]
    print("| method | " + " | ".join(kind + column for column, kind in kinds) + " |")
    print("| --- |" + " --- |" * len(kinds))
    for method, row in table.items():
        cells = [cell(row[c], accuracies(table[arguments.against][c]) if arguments.against else None) for c in columns]
        cells += [mean_of(row[c], "flops_of_dense", 3) for c in columns]
        cells += [mean_of(row[c], "megabytes", 2) for c in columns]
        print(f"| {method} | " + " | ".join(cells) + " |")
    seconds = sum(run.get("seconds", 0) for row in table.values() for runs in
                  {id(runs): runs for runs in row.values()}.values() for run in runs.values())
    print(f"\n{seconds / 3600:.1f} hours of rounds, one after the other.")


if __name__ == "__main__":
    main()
