#!/usr/bin/env python3
"""How long two models take that are trained side by side, on two workers and on one, which has them one after the other.

    tests/bench/rounds/branches_time.py [--turns 5]

A ticket and its control of an `imp` job on the repository's digits: one participant, so that one model keeps one worker busy, and
one thread a worker. A turn is one job with each number of workers. Prints the medians of the time from the level's first round to
the job's end, and whether all models are the same.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile

import selection_time

ROOT = selection_time.ROOT
sys.path.insert(0, str(ROOT / "tests" / "bench" / "accuracy"))
import run as accuracy  # noqa: E402

JOB = {
    "model": {"input_features": 64, "layers": [
        {"linear": {"units": 2000, "activation": "relu"}}, {"linear": {"units": 1000, "activation": "relu"}},
        {"linear": {"units": 10}}]},
    "data": {"dataset": "digits", "scale": 16, "test_fraction": 0.2003339, "partition": {"kind": "iid", "shards": 1}},
    "method": {"name": "imp", "parameters": {"levels": 1, "controls": "reinit"}},
    "training": {"batch_size": 32, "local_epochs": 1, "optimizer": {"kind": "sgd", "learning_rate": 0.05}},
    "federation": {"rounds": 3},
    "evaluation": {"central": True, "every_rounds": 3},
    "seed": 1,
}


def level(server, job_file):
    """Seconds of the two runs, and the hashes of their models."""
    job, events = selection_time.run_job(server, job_file)
    first = next(e for e in events if (e.get("round_started") or {}).get("run") == "ticket-1")
    end = next(e for e in events if (e.get("state_changed") or {}).get("state") == "SUCCEEDED")
    seconds = selection_time.seconds_of(end) - selection_time.seconds_of(first)
    return seconds, tuple(run["model_hash"] for run in job["runs"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    found = {2: [], 1: []}
    with tempfile.TemporaryDirectory() as folder:
        job_file = pathlib.Path(folder) / "job.yaml"
        job_file.write_text(json.dumps(JOB))  # JSON is YAML
        for turn in range(arguments.turns):
            for workers in found:
                with accuracy.Cluster(workers, ROOT / "data", f"{folder}/{workers}-{turn}") as server:
                    found[workers].append(level(server, job_file))
    medians = {workers: statistics.median(seconds for seconds, _ in results) for workers, results in found.items()}
    for workers, results in found.items():
        print(f"{workers} workers: median {1000 * medians[workers]:.0f} ms of "
              f"{', '.join(f'{1000 * seconds:.0f}' for seconds, _ in results)}")
    print(f"2 / 1: {medians[2] / medians[1]:.2f}; same models: "
          f"{len({hashes for results in found.values() for _, hashes in results}) == 1}")


if __name__ == "__main__":
    main()
