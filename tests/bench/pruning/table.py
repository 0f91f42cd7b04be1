#!/usr/bin/env python3
"""Perplexity of a language model after each way of pruning it, as a Markdown table.

    tests/bench/pruning/table.py --server 127.0.0.1:7070 --model stories260K --dataset tinystories

The coordinator and its workers must run already (`espalier up --models …`). Results are kept in --results, one JSON file
for each job, so that an interrupted run goes on where it stopped; delete the folder to start anew.
"""

import argparse
import json
import os
import pathlib
import subprocess

BIN = pathlib.Path(os.environ.get("ESPALIER_BIN_DIR", "build/release/bin"))
STARTS = ("magnitude", "wanda", "sparsegpt")


def job_text(options, method, parameters):
    return json.dumps(
        {
            "model": {"pretrained": options.model},
            "data": {
                "dataset": options.dataset,
                "text": {"context": options.context, "tokenizer": options.tokenizer},
                "test_fraction": options.test_fraction,
                "train_limit": options.train_limit,
                "test_limit": options.test_limit,
                "partition": {"kind": "iid", "shards": options.shards},
            },
            "method": {"name": method, "parameters": parameters},
        }
    )


def run(options, name, method, parameters):
    """The finished job; from the results folder when it is there."""
    file = options.results / f"{name}.json"
    if file.exists():
        return json.loads(file.read_text())
    job = options.results / f"{name}.yaml"
    job.write_text(job_text(options, method, parameters))
    done = subprocess.run(
        [BIN / "espalier", "--server", options.server, "job", "submit", job, "--wait", "-o", "json"],
        check=False,
        text=True,
        capture_output=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"{name}: {done.stderr}")
    file.write_text(done.stdout)
    return json.loads(done.stdout)


def mean_error(job, field):
    layers = [layer for summary in job["history"] for layer in summary["layers"]]
    values = [layer[field] for layer in layers if field in layer]
    return sum(values) / len(values) if values else float("nan")


def rows(options):
    levels = [(f"{round(100 * s)} %", {"sparsity": s}) for s in (0.5, 0.6, 0.7)]
    levels.append(("2:4", {"pattern": "2:4"}))
    for label, level in levels:
        key = label.replace(" %", "").replace(":", "of")
        for start in STARTS:
            plain = run(options, f"{start}-{key}", start, level)
            refined = run(
                options,
                f"dsnot-{start}-{key}",
                "dsnot",
                level
                | {"init": start, "refine": options.refine, "sign_check": options.sign_check},
            )
            yield label, start, plain, refined


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default=os.environ.get("ESPALIER_SERVER", "127.0.0.1:7070"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--tokenizer", default="file")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--test-fraction", type=float, default=0.2)
    parser.add_argument("--train-limit", type=int, default=0, help="sequences to calibrate on")
    parser.add_argument("--test-limit", type=int, default=0, help="sequences to evaluate on")
    parser.add_argument("--sign-check", default="auto", choices=("auto", "on", "off"))
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--refine", default="all", choices=("attention", "mlp", "all"))
    parser.add_argument("--results", type=pathlib.Path, default=pathlib.Path("pruning-results"))
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    head = "| sparsity | start | perplexity | + DSnoT | mean layer error | + DSnoT |"
    print(head, "| --- | --- | --- | --- | --- | --- |", sep="\n")
    for label, start, plain, refined in rows(options):
        print(
            f"| {label} | {start} | {plain['history'][-1]['perplexity']:.3f} "
            f"| {refined['history'][-1]['perplexity']:.3f} | {mean_error(plain, 'output_error'):.4f} "
            f"| {mean_error(refined, 'output_error'):.4f} |",
            flush=True,
        )
        dense = plain["history"][-1]["dense_perplexity"]
    print(f"\ndense: {dense:.3f}")


if __name__ == "__main__":
    main()
