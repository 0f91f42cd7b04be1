#!/usr/bin/env python3
"""How long fedtiny compares its candidates, by two builds in turns.

    tests/bench/rounds/selection_time.py BIN_DIR_BEFORE BIN_DIR_AFTER [--workers 2] [--turns 5]

Ten candidates of a small convolutional network on the repository's digits, eight uneven participants, one thread a worker. A turn is one
job of one round with each build. Prints the median time from the job's start to its first round, the bytes of the selection, and
whether both ended with the same model.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "bench" / "accuracy"))
import run as accuracy  # noqa: E402

JOB = {
    "model": {"input_image": {"channels": 1, "height": 8, "width": 8}, "layers": [
        {"conv2d": {"channels": 32, "no_bias": True}}, {"batch_norm": {"activation": "relu"}},
        {"conv2d": {"channels": 64, "no_bias": True}}, {"batch_norm": {"activation": "relu"}},
        {"linear": {"units": 128, "activation": "relu"}}, {"linear": {"units": 10, "dense": True}}]},
    "data": {"dataset": "digits", "scale": 16, "test_fraction": 0.2003339,
             "partition": {"kind": "dirichlet", "shards": 8, "alpha": 0.5}},
    "method": {"name": "fedtiny", "parameters": {"density": 0.1, "pool_size": 10, "blocks": 2, "development_fraction": 1}},
    "training": {"batch_size": 32, "local_epochs": 1, "optimizer": {"kind": "sgd", "learning_rate": 0.05}},
    "federation": {"rounds": 1},
    "evaluation": {"central": True},
    "seed": 1,
}


def seconds_of(event):
    """The time of an event, as seconds."""
    return datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


def run_job(server, job_file):
    """The job as it ended, and its events."""
    command = [accuracy.BIN, "--server", server, "job"]
    done = subprocess.run([*command, "submit", job_file, "--wait", "-o", "json"], stdout=subprocess.PIPE, text=True,
                          check=True)
    job = json.loads(done.stdout)
    lines = subprocess.run([*command, "watch", job["name"], "-o", "json"], stdout=subprocess.PIPE, text=True,
                           check=True).stdout.splitlines()
    return job, [json.loads(line) for line in lines]


def selection(server, job_file):
    """Seconds from the job's start to its first round, bytes before that, and the model's hash."""
    job, events = run_job(server, job_file)
    start = next(e for e in events if (e.get("state_changed") or {}).get("state") == "RUNNING")
    first = next(e for e in events if e.get("round_started"))
    return (seconds_of(first) - seconds_of(start),
            int(job["prelude_bytes_sent"]) + int(job["prelude_bytes_received"]), job["model_hash"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=pathlib.Path)
    parser.add_argument("after", type=pathlib.Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        job_file = pathlib.Path(folder) / "job.yaml"
        job_file.write_text(json.dumps(JOB))  # JSON is YAML
        found = {"before": [], "after": []}
        for turn in range(arguments.turns):
            for name in found:
                accuracy.BIN = getattr(arguments, name).resolve() / "espalier"
                with accuracy.Cluster(arguments.workers, ROOT / "data", f"{folder}/{name}-{turn}") as server:
                    found[name].append(selection(server, job_file))
    medians = {name: statistics.median(seconds for seconds, _, _ in results) for name, results in found.items()}
    for name, results in found.items():
        print(f"{name}: median {1000 * medians[name]:.0f} ms of {', '.join(f'{1000 * s:.0f}' for s, _, _ in results)}; "
              f"{results[0][1] / 1e6:.2f} MB")
    print(f"after / before: {medians['after'] / medians['before']:.2f}; same model: "
          f"{len({digest for results in found.values() for _, _, digest in results}) == 1}")


if __name__ == "__main__":
    main()
