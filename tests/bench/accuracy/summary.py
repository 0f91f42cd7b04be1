#!/usr/bin/env python3
"""An experiment of run.py in one table: a row per method, a column per density.

    tests/bench/accuracy/summary.py fedtiny-table
    tests/bench/accuracy/summary.py fedtiny-table --against fedtiny    differences, seed by seed

Reads own and recorded results. Accuracies are those of the last round on the test set: mean ± standard deviation over
seeds, in percent; "of 2" where other cells have more seeds. Rows named "<method> <density>[, <condition>]" go to the
column of that density and condition, others (such as "dense") to all columns.
"""

import argparse
import collections
import math
import statistics
import sys

import run
import store


def arrange(results):
    """{method: {column: {seed: result}}}, and the columns in the order of the results."""
    table = collections.defaultdict(lambda: collections.defaultdict(dict))
    for result in results:
        method, column = store.split_row(result["row"])
        table[method][column][result["seed"]] = result
    columns = list(dict.fromkeys(c for row in table.values() for c in row if c is not None)) or ["accuracy"]
    for row in table.values():
        if None in row:
            row.update({column: row[None] for column in columns})
            del row[None]
    return table, columns


def accuracies(runs):
    return {seed: r["last"] for seed, r in runs.items() if "failure" not in r}


def cell(runs, reference, seeds):
    found = accuracies(runs)
    values = list(found.values()) if reference is None else [found[s] - reference[s] for s in found if s in reference]
    failed = len(runs) - len(found)
    notes = ([f"{failed} failed"] if failed else []) + (
        [f"of {len(values)}"] if 0 < len(values) < seeds and len(values) + failed < seeds else [])
    return run.spread(values, 100, 1) + (f" ({', '.join(notes)})" if notes else "")


def mean_of(runs, key, digits):
    values = [r[key] for r in runs.values() if not math.isnan(r.get(key, math.nan))]
    return f"{statistics.mean(values):.{digits}f}" if values else ""


def print_markdown(heads, rows):
    """Without the columns in which nothing stands."""
    kept = [k for k in range(len(heads)) if any(row[k] for row in rows)]
    print("| " + " | ".join(heads[k] for k in kept) + " |")
    print("|" + " --- |" * len(kept))
    for row in rows:
        print("| " + " | ".join(row[k] for k in kept) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("--against", metavar="METHOD", help="its accuracy at the same seed and density is taken off")
    arguments = parser.parse_args()
    if arguments.experiment not in run.EXPERIMENTS:
        parser.error(f"expected one of {', '.join(run.EXPERIMENTS)}; found {arguments.experiment}")
    table, columns = arrange(run.current_results(arguments.experiment))
    seeds = max((len(runs) for row in table.values() for runs in row.values()), default=0)
    if arguments.against and arguments.against not in table:
        parser.error(f"expected a method out of {', '.join(table) or 'none (no results)'}; found {arguments.against}")
    if not table:
        sys.exit(f"no results of {arguments.experiment}; run tests/bench/accuracy/run.py {arguments.experiment} first")
    print_markdown(["method", *columns, *(f"FLOPs of dense, {c}" for c in columns),
                    *(f"MB a round, {c}" for c in columns)],
                   [[method, *(cell(row[c], accuracies(table[arguments.against][c]) if arguments.against else None, seeds)
                               for c in columns),
                     *(mean_of(row[c], "flops_of_dense", 3) for c in columns),
                     *(mean_of(row[c], "megabytes", 2) for c in columns)] for method, row in table.items()])


if __name__ == "__main__":
    main()
