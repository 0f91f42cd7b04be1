#!/usr/bin/env python3
"""What features are worth that quick-selection chooses, beside features of largest variance and random ones.

    ESPALIER_DATA=DIR tests/bench/features/run.sh selection.py [--seeds 5] [--sets mnist madelon ...]

DIR has mnist and feature-selection. Each data set is standardised by its training part; for sets without a given test part a
third of the examples is drawn by the seed. A job of method quick-selection sees the training part without labels, and 50
features are taken from its report. Then classifiers of scikit-learn learn the labels from these features alone and are judged by
the test part: five nearest neighbours, extremely randomised trees (50) and a support vector machine with an RBF kernel. Prints a
Markdown table: mean ± standard deviation over seeds, in percent. Appends each result to build/accuracy/features.jsonl; what
is there or recorded already is not run again, so an interrupted run goes on where it stopped.
"""

import argparse
import gzip
import json
import os
import pathlib
import subprocess
import sys

import numpy
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "bench" / "accuracy"))
import run as accuracy  # noqa: E402
import store  # noqa: E402

RESULTS = ROOT / "build" / "features"
SETS = ("mnist", "isolet", "coil20", "orl", "madelon", "pcmac")
FEATURES = 50
# The authors' settings. Sets of a few hundred examples have as many passes as MNIST, but smaller minibatches.
JOB = {
    "model": {"input_noise": 0.2, "layers": [
        {"linear": {"units": 1000, "activation": "sigmoid", "dropout": 0.2}}, {"linear": {}}]},
    "data": {"target": "input", "partition": {"kind": "iid", "shards": 1}},
    "method": {"name": "quick-selection", "parameters": {"features": FEATURES, "epsilon": 13, "zeta": 0.2}},
    "training": {"local_epochs": 1, "optimizer": {"kind": "sgd", "learning_rate": 0.01, "momentum": 0.9,
                                                  "weight_decay": 1e-5}},
    "federation": {"rounds": 100, "round_deadline": "3600s"},
    "evaluation": {"every_rounds": 100, "central": True},
}


def data_root():
    return pathlib.Path(os.environ.get("ESPALIER_DATA", ROOT / "data"))


def read_array(name):
    with gzip.open(data_root() / "feature-selection" / f"{name}.npy.gz") as file:
        return numpy.load(file)


def read_mnist(part):
    folder = data_root() / "mnist"
    images = accuracy.read_idx(folder / f"{part}-images-idx3-ubyte.gz", 16)
    labels = accuracy.read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 8)
    return numpy.frombuffer(images, numpy.uint8).reshape(-1, 784), numpy.frombuffer(labels, numpy.uint8)


def standardised(train, test):
    train, test = train.astype(numpy.float64), test.astype(numpy.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0] = 1
    return ((train - mean) / deviation).astype(numpy.float32), ((test - mean) / deviation).astype(numpy.float32)


def examples(name, seed):
    """Raw training and test features, and their labels."""
    if name == "mnist":
        (train, train_labels), (test, test_labels) = read_mnist("train"), read_mnist("t10k")
    elif name == "isolet":
        train, train_labels = read_array("isolet_train_X"), read_array("isolet_train_y")
        test, test_labels = read_array("isolet_test_X"), read_array("isolet_test_y")
    else:
        features, labels = read_array(f"{name}_X"), read_array(f"{name}_y")
        order = numpy.random.RandomState(seed).permutation(len(labels))
        held_out, rest = order[: len(labels) // 3], order[len(labels) // 3:]
        train, train_labels, test, test_labels = features[rest], labels[rest], features[held_out], labels[held_out]
    return train, train_labels.astype(numpy.int64), test, test_labels.astype(numpy.int64)


def write_folder(name, train, train_labels, test, test_labels):
    folder = RESULTS / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    for part, features, labels in (("train", train, train_labels), ("test", test, test_labels)):
        numpy.save(folder / f"{part}_features.npy", features)
        numpy.save(folder / f"{part}_labels.npy", labels.astype(numpy.int32))


def select(server, name, inputs, examples_count, seed):
    """Features by quick-selection, the strongest first, and what the job took."""
    job = json.loads(json.dumps(JOB))
    job["data"]["dataset"] = name
    job["model"]["input_features"] = inputs
    job["model"]["layers"][1]["linear"]["units"] = inputs
    job["training"]["batch_size"] = 100 if examples_count > 5000 else 20
    job["seed"] = seed
    file = RESULTS / f"job-{name}-{seed}.yaml"
    file.write_text(json.dumps(job))  # JSON is YAML
    done = subprocess.run([accuracy.BIN, "--server", server, "job", "submit", file, "--wait", "-o", "json"],
                          stdout=subprocess.PIPE, text=True)
    file.unlink()
    if done.returncode != 0:
        sys.exit(f"{name} seed {seed}: exit code {done.returncode}\n{done.stdout}")
    finished = json.loads(done.stdout)
    chosen = [int(feature["index"]) for feature in finished["features"] if feature["selected"]]
    seconds = sum(float(r["duration"].rstrip("s")) for r in finished["history"])
    return chosen, {"seconds": seconds, "weights": int(finished["history"][-1]["active_weights"]),
                    "density": finished["history"][-1]["density"], "hash": finished["model_hash"]}


def judge(train, train_labels, test, test_labels, columns, seed):
    """Test accuracies on these columns alone."""
    limit = 10_000  # of examples that the slow classifiers learn from
    chosen = numpy.random.RandomState(seed).permutation(len(train_labels))[:limit]
    few, few_labels = train[chosen][:, columns], train_labels[chosen]
    models = {"5-NN": KNeighborsClassifier(5), "SVM": SVC(),
              "extra trees": ExtraTreesClassifier(50, random_state=seed)}
    return {kind: float(model.fit(few, few_labels).score(test[:, columns], test_labels))
            for kind, model in models.items()}


def run(name, seed):
    raw, train_labels, raw_test, test_labels = examples(name, seed)
    train, test = standardised(raw, raw_test)
    write_folder(name, train, train_labels, test, test_labels)
    # A coordinator and a worker for each, since a seed may mean other training examples.
    with accuracy.Cluster(1, RESULTS / "data", RESULTS / "cluster") as server:
        chosen, cost = select(server, name, train.shape[1], len(train_labels), seed)
    ways = {
        "quick-selection": chosen,
        "largest variance": numpy.argsort(-raw.astype(numpy.float64).var(axis=0), kind="stable")[:FEATURES].tolist(),
        "random": numpy.random.RandomState(seed).permutation(train.shape[1])[:FEATURES].tolist(),
        "all features": list(range(train.shape[1])),
    }
    return {"row": name, "seed": seed, "features": chosen, "cost": cost,
            "accuracy": {way: judge(train, train_labels, test, test_labels, columns, seed)
                         for way, columns in ways.items()}}


def cell(results, way, kind):
    return accuracy.spread([result["accuracy"][way][kind] for result in results], 100, 1)


def print_table(results, names):
    kinds = ("5-NN", "SVM", "extra trees")
    print("| data set (features) | seeds | chosen by | " + " | ".join(kinds) + " |")
    print("| --- | --- | --- |" + " --- |" * len(kinds))
    for name in names:
        of_set = [result for result in results if result["row"] == name]
        for way in ("quick-selection", "largest variance", "random", "all features") if of_set else ():
            print(f"| {name} | {len(of_set)} | {way} | " + " | ".join(cell(of_set, way, kind) for kind in kinds) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    arguments = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    results = store.read("features")
    known = {(result["row"], result["seed"]) for result in results}
    for seed in range(1, arguments.seeds + 1):
        for name in arguments.sets:
            if (name, seed) in known:
                continue
            results.append(run(name, seed))
            store.append("features", results[-1])
            print(name, seed, results[-1]["accuracy"], results[-1]["cost"], file=sys.stderr, flush=True)
    print_table(results, arguments.sets)


if __name__ == "__main__":
    main()
