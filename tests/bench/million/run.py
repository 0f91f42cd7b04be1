#!/usr/bin/env python3
"""Two epochs of SET on a network of more than a million hidden neurons, on one worker.

    ESPALIER_DATA=DIR tests/bench/million/run.py [--limit EXAMPLES]

784-350000-350000-350000-10 on Fashion-MNIST (DIR/fashion-mnist), 3 weights per neuron that a hidden layer joins: about
5.3 million where a dense network would have 245 billion, and 3.5 million in the dense output layer. A real cluster: coordinator and worker are
processes of their own. Prints one JSON object; some minutes on one thread. The bound is 4 GB in the worker.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "bench" / "accuracy"))
import run as accuracy  # noqa: E402

HIDDEN = 350_000
BOUND = 4_000_000_000


def job(limit):
    hidden = {"linear": {"units": HIDDEN, "activation": "relu"}}
    return {
        "display_name": "A million neurons",
        "model": {"input_features": 784, "layers": [hidden, hidden, hidden, {"linear": {"units": 10, "dense": True}}]},
        "data": {
            "dataset": "fashion-mnist",
            "scale": 255,
            "train_limit": limit,
            "partition": {"kind": "iid", "shards": 1},
        },
        "method": {"name": "set", "parameters": {"epsilon": 3.0, "grown_weights": "zero"}},
        "training": {"batch_size": 64, "optimizer": {"kind": "sgd", "learning_rate": 0.01, "momentum": 0.9}},
        # Rounds of an epoch each; the second one trains on an evolved structure.
        "federation": {"rounds": 2, "round_deadline": "3600s"},
        "evaluation": {"central": True},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--limit", type=int, default=0, help="training examples, 0 = all 60,000")
    arguments = parser.parse_args()
    data_root = os.environ.get("ESPALIER_DATA", str(ROOT / "data"))
    with accuracy.Cluster(1, data_root, accuracy.store.OWN / "cluster" / "million") as server, \
            tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job(arguments.limit), file)
        file.flush()
        command = [accuracy.BIN, "--server", server, "job", "submit", file.name, "--wait", "-o", "json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"the job ended with exit code {done.returncode}\n{done.stdout}")
    result = json.loads(done.stdout)
    first, last = result["history"][0], result["history"][-1]
    peak = int(last["worker_peak_memory_bytes"])
    print(json.dumps({
        "hidden_neurons": 3 * HIDDEN,
        "weights": int(last["active_weights"]),
        "density": last["density"],
        "examples": int(last["examples"]),
        "stored_parameters": int(result["stored_parameters"]),
        "round_seconds": float(first["duration"].rstrip("s")),
        "worker_peak_bytes": peak,
        "test_accuracy": last["test_accuracy"],
        "within_bound": peak < BOUND,
    }))
    return 0 if peak < BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
