#!/usr/bin/env python3
"""Accuracy experiments: several seeds of several methods on real data, through a real cluster.

    tests/bench/accuracy/run.py fashion            one experiment (see EXPERIMENTS)
    tests/bench/accuracy/run.py --all --seeds 5

Starts `espalier up`, submits jobs, one after another or --jobs at once, and appends each result to
build/accuracy/<experiment>.jsonl. What is there or among the recorded results (recorded/) already is not run
again, so an interrupted run goes on where it stopped; --fresh runs what is recorded once more. Prints a
Markdown table: mean ± standard deviation over seeds. ESPALIER_DATA names the folder with the data sets
(default: data).
"""

import argparse
import concurrent.futures
import gzip
import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import statistics
import struct
import subprocess
import sys

import store

BIN = pathlib.Path(os.environ.get("ESPALIER_BIN_DIR", store.ROOT / "build" / "release" / "bin")) / "espalier"

SET = {"method.name": "set"}
DENSE = {"method.name": "dense", "method.parameters": "{}"}


def variant(name, parameters):
    return {"method.name": name, "method.parameters": parameters}


# The 2,000 and 1,000 images of the SET authors' tutorial, see write_tutorial_images().
TUTORIAL = {"data.dataset": "fashion-mnist-2000", "data.train_limit": 0, "data.test_limit": 0}

def recommenders(model, common=None):
    """Rows of a table on sparse recommenders: every method at three densities."""
    common = {f"model.recommender.{key}": value for key, value in model.items()} | (common or {})
    rows = {"dense": common | DENSE}
    for density in (0.5, 0.2, 0.1):
        for name, more in {
            "dsl": "", "rigl": ", distribution: uniform, update_every: 2",
            "set": ", distribution: uniform, grown_weights: zero, evolve_every: 2",
            "static": ", distribution: uniform"}.items():
            rows[f"{name} {density}"] = common | variant(name, f"{{density: {density}{more}}}")
            if name == "dsl":
                rows[f"{name} {density}"]["method.parameters"] = f"{{density: {density}, update_every: 2}}"
        # The best of dsl-parameters.
        rows[f"dsl, tuned {density}"] = common | variant(
            "dsl", f"{{density: {density}, update_every: 1, death: taylor, growth_batches: 10}}")
        # Dense for three quarters of the rounds, pruned once, fine-tuned; the best accuracy may be the dense model's.
        rows[f"one-shot magnitude {density}"] = common | variant("gmp", f"{{density: {density}, update_every: 1000}}")
    return rows


def with_narrow(rows):
    """Adds dense LightGCN with as many weights as the sparse tables, in fewer dimensions than 64."""
    return rows | {f"narrow dense {density}": rows["dense"] | {"model.recommender.lightgcn.dimensions": dimensions}
                   for density, dimensions in ((0.5, 32), (0.2, 13), (0.1, 6))}


# What the parameters of dsl are worth: one changed at a time, then some together.
DSL_ALTERNATIVES = {
    "dsl": "update_every: 2", "dsl, every round": "update_every: 1", "dsl, every 5 rounds": "update_every: 5",
    "dsl, rho 0.25": "update_every: 2, rho: 0.25", "dsl, rho 0.1": "update_every: 2, rho: 0.1",
    "dsl, 10 growth batches": "update_every: 2, growth_batches: 10",
    "dsl, death set": "update_every: 2, death: set", "dsl, death taylor": "update_every: 2, death: taylor",
    "dsl, growth random": "update_every: 2, growth: random", "dsl, no regrowth": "update_every: 2, regrow: false",
    "dsl, death taylor, 10 growth batches": "update_every: 2, death: taylor, growth_batches: 10",
    "dsl, every round, 10 growth batches": "update_every: 1, growth_batches: 10",
    "dsl, every round, death taylor, 10 growth batches": "update_every: 1, death: taylor, growth_batches: 10",
    "dsl, every round, 78 growth batches": "update_every: 1, growth_batches: 78",
    "dsl, every round, death taylor": "update_every: 1, death: taylor",
    "dsl, every round, death taylor, 40 growth batches": "update_every: 1, death: taylor, growth_batches: 40"}


ML_1M = {"users": 6040, "items": 3706}
# 20 passes are far from the end of training, which takes hundreds; dsl-gowalla-longer goes on to 150.
GOWALLA = {"data.dataset": "lightgcn-gowalla", "data.interactions": "{split: given}",
           "training.batch_size": 8192, "training.local_steps": 99, "federation.round_deadline": "2h",
           "federation.rounds": 20, "evaluation.every_rounds": 10}
GOWALLA_SIZE = {"users": 29858, "items": 40981}

# Ten uneven participants of CIFAR-10 on a ResNet-18 of an eighth of the width: 60 rounds of one pass over 5,000 images.
TINY = {"model.name": "resnet18", "model.parameters.width": 0.125, "data.test_limit": 4000,
        "training.batch_size": 16, "training.optimizer.learning_rate": 0.2, "training.schedule.kind": "cosine",
        "federation.rounds": 60, "evaluation.every_rounds": 10}
TINY_DENSITIES = (0.1, 0.03, 0.01)
FEDTINY = "pool_size: 10, update_every: 2, stop_round: 40"
TINY_METHODS = {
    "fedtiny": ("fedtiny", FEDTINY),
    "fedtiny, vanilla selection": ("fedtiny", f"{FEDTINY}, selection: vanilla"),
    "fedtiny, not progressive": ("fedtiny", f"{FEDTINY}, progressive: none"),
    "fedtiny, neither": ("fedtiny", f"{FEDTINY}, selection: vanilla, progressive: none"),
    "fedmef": ("fedmef", FEDTINY),
    "feddst": ("feddst", "update_every: 2, stop_round: 40"),
    "prunefl": ("prunefl", "initial: random, max_density: {density}, update_every: 2"),
    "gmp": ("gmp", "distribution: erk"),
    "synflow": ("synflow", ""),
    "snip": ("snip", ""),
    "static": ("static", "distribution: erk"),
}
# What the heterogeneity study compares; the table has the partition in between (Dirichlet 0.5).
TINY_PARTITIONS = {"Dirichlet 0.1": {"data.partition.alpha": 0.1}, "iid": {"data.partition": "{kind: iid, shards: 10}"}}
TINY_COMPARED = ("gmp", "fedtiny", "feddst", "snip")
# What a server trains before, on 1,000 images of its own (about a tenth of them also some participant's).
PUBLIC = TINY | DENSE | {"data.train_limit": 1000, "data.partition": "{kind: iid, shards: 1}", "federation.rounds": 30,
                         "evaluation.every_rounds": 30}
# What an adjustment costs and gains: how often, and where weights are grown.
ADJUSTMENTS = {"every 5": "update_every: 5", "every 10": "update_every: 10", "exact": "top_k: exact, update_every: 2"}
ABLATIONS = [method for method in TINY_METHODS if method.startswith("fedtiny")]


def tiny(method, density, common=TINY):
    """A row of the FedTiny tables: one of TINY_METHODS at a density."""
    name, parameters = TINY_METHODS[method]
    return common | variant(name, "{" + f"density: {density}, " + parameters.replace("{density}", str(density)) + "}")


# How values travel: both ways alike, and one way alone.
WIRES = {"f32": {}, **{f"{values}": {"wire.up": values, "wire.down": values} for values in ("bf16", "int8")},
         "int8 up": {"wire.up": "int8"}, "int8 down": {"wire.down": "int8"}}


def wires(methods, common=None):
    """A row for each method and each way in which its values travel."""
    return {f"{method}, {wire}": (common or {}) | overrides | more
            for method, overrides in methods.items() for wire, more in WIRES.items()}


# Experiment: job file and, for each row of its table, what is overridden in it.
EXPERIMENTS = {
    # Recommenders; ESPALIER_DATA has the folders ml-100k, ml-1m and lightgcn-gowalla.
    "dsl-lightgcn": ("dsl-lightgcn.yaml", with_narrow(recommenders({}))),
    "dsl-lightgcn-longer": ("dsl-lightgcn.yaml", {
        row: overrides | {"federation.rounds": 160} for row, overrides in recommenders({}).items()
        if row in ("dense", "dsl 0.5", "rigl 0.5")}),
    "dsl-parameters": ("dsl-lightgcn.yaml", {
        f"{name} {density}": variant("dsl", f"{{density: {density}, {parameters}}}")
        for density in (0.5, 0.2, 0.1) for name, parameters in DSL_ALTERNATIVES.items()}),
    "dsl-gowalla": ("dsl-lightgcn.yaml", with_narrow(recommenders(GOWALLA_SIZE, GOWALLA))),
    "dsl-gowalla-longer": ("dsl-lightgcn.yaml", {
        row: overrides | {"federation.rounds": 150, "evaluation.every_rounds": 25}
        for row, overrides in recommenders(GOWALLA_SIZE, GOWALLA).items() if row in ("dense", "dsl 0.5")}),
    "dsl-neumf": ("dsl-lightgcn.yaml", recommenders(ML_1M | {"lightgcn": "null", "neumf": "{}"}, {
        "data.dataset": "ml-1m", "training.batch_size": 512, "training.local_steps": 1563,
        "training.optimizer.learning_rate": 0.001, "federation.rounds": 20})),
    "dsl-multvae": ("dsl-lightgcn.yaml", recommenders(ML_1M | {"lightgcn": "null", "multvae": "{anneal_steps: 10000}"}, {
        "data.dataset": "ml-1m", "data.interactions": "{split: held_out_users}", "evaluation.top_k": "[20, 100]",
        "evaluation.main_metric": "ndcg@100", "training.batch_size": 128, "training.local_steps": 40,
        "training.optimizer.learning_rate": 0.001, "federation.rounds": 60})),
    "digits": ("digits-set.yaml", {
        "set": {}, "rigl": variant("rigl", "{density: 0.1, update_every: 2}"),
        "static": variant("static", "{density: 0.1, distribution: erk}"), "dense": DENSE}),
    "fashion": ("fashion-mnist-set.yaml", {
        "set": TUTORIAL, "static": TUTORIAL | variant("static", "{epsilon: 13}"), "dense": TUTORIAL | DENSE}),
    "fashion-drawn": ("fashion-mnist-set.yaml", {
        "set": {}, "static": variant("static", "{epsilon: 13}")}),
    "fashion-federated": ("fashion-mnist-set-federated.yaml", {
        "set": TUTORIAL, "static": TUTORIAL | variant("static", "{epsilon: 13}")}),
    "fedtiny-table": ("fedtiny-cifar10.yaml", {"dense": TINY | DENSE} | {
        f"{method} {density}": tiny(method, density) for density in TINY_DENSITIES for method in TINY_METHODS}),
    "fedtiny-alpha": ("fedtiny-cifar10.yaml", {
        f"{method} 0.03, {name}": tiny(method, 0.03, TINY | more)
        for name, more in TINY_PARTITIONS.items() for method in TINY_COMPARED}),
    "fedtiny-adjust": ("fedtiny-cifar10.yaml", {
        f"fedtiny, {name} {density}": TINY | variant(
            "fedtiny", f"{{density: {density}, pool_size: 10, stop_round: 40, {parameters}}}")
        for density in (0.03, 0.01) for name, parameters in ADJUSTMENTS.items()}),
    "fedtiny-pretrained": ("fedtiny-cifar10.yaml", {f"{method} 0.01": tiny(method, 0.01) for method in ABLATIONS}),
    "wire-digits": ("digits-set.yaml", wires({"set": {}, "dense": DENSE})),
    "wire-fashion": ("fashion-mnist-set-federated.yaml", wires({"set": {}, "dense": DENSE}, TUTORIAL | {
        "training.optimizer.across_rounds": "reset", "federation.rounds": 100, "evaluation.every_rounds": 10})),
    "mnist-10": ("mnist-set-10-workers.yaml", {"set": {}}),
    # N of every M weights: three ways, and what has as many weights without a pattern.
    "n-of-m-digits": ("digits-n-of-m.yaml", {"dense": DENSE} | {
        f"{mode} {n}:{m}": variant("n-of-m", f"{{n: {n}, m: {m}, mode: {mode}}}")
        for n, m in ((2, 4), (1, 8)) for mode in ("evolve", "sr-ste", "ste")} | {
        f"{name} {density}": variant(name, f"{{density: {density}, distribution: uniform}}")
        for density in (0.5, 0.125) for name in ("rigl", "static")}),
    # Winning tickets: each job has its tickets and controls as runs.
    "imp-lenet": ("mnist-imp-lenet300.yaml", {"imp": {}, "imp, rewound to round 1": {
        "method.parameters.rewind_round": 1, "method.parameters.controls": "reinit"}}),
    "mnist-lenet": ("mnist-rigl-lenet300.yaml", {
        "rigl": {},
        "set": variant("set", "{density: 0.02, distribution: erk, zeta: 0.3, grown_weights: zero}"),
        "static": variant("static", "{density: 0.02, distribution: erk}")}),
}
# Experiment: overrides of the job whose checkpoint its jobs begin with, one for each seed.
PRETRAINING = {"fedtiny-pretrained": PUBLIC}


def read_idx(path, header):
    with gzip.open(path) as file:
        return file.read()[header:]


def write_tutorial_images(source, target):
    """Writes the subset of Fashion-MNIST that the SET authors' tutorial draws with numpy's seed 0."""
    import numpy

    random = numpy.random.RandomState(0)
    target.mkdir(parents=True, exist_ok=True)
    for prefix, total, kept in (("train", 60000, 2000), ("t10k", 10000, 1000)):
        order = numpy.arange(total)
        random.shuffle(order)
        chosen = order[:kept]
        images = f"{prefix}-images-idx3-ubyte.gz"
        labels = f"{prefix}-labels-idx1-ubyte.gz"
        pixels = numpy.frombuffer(read_idx(source / images, 16), numpy.uint8).reshape(total, 784)
        classes = numpy.frombuffer(read_idx(source / labels, 8), numpy.uint8)
        with gzip.open(target / images, "wb") as file:
            file.write(struct.pack(">IIII", 2051, kept, 28, 28) + pixels[chosen].tobytes())
        with gzip.open(target / labels, "wb") as file:
            file.write(struct.pack(">II", 2049, kept) + classes[chosen].tobytes())


def data_root(experiment):
    """Where the experiment's data set is; makes what is drawn from another one."""
    given = pathlib.Path(os.environ.get("ESPALIER_DATA", str(store.ROOT / "data")))
    if TUTORIAL["data.dataset"] not in [row.get("data.dataset") for row in EXPERIMENTS[experiment][1].values()]:
        return given
    own = store.OWN / "data"
    write_tutorial_images(given / "fashion-mnist", own / TUTORIAL["data.dataset"])
    return own


class Cluster:
    """`espalier up` on free ports, for the time of a with statement."""

    def __init__(self, workers, data_root, data_dir, arguments=()):
        # Jobs that an interrupted run left are submitted again, and must not go on beside that.
        for left in pathlib.Path(data_dir).glob("jobs.sqlite*"):
            left.unlink()
        self.command = [BIN, "up", "--workers", str(workers), "--port", "0", "--metrics-port", "0",
                        "--data-root", data_root, "--data-dir", str(data_dir), *arguments]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        match = re.search(r"address=(\S+)", line)
        if not match:
            sys.exit("the cluster did not start; run it by hand: " + " ".join(map(str, self.command)))
        return match.group(1)

    def __exit__(self, *unused):
        self.process.terminate()
        self.process.wait(20)


def submit(server, job_file, overrides, seed):
    """The job when it has ended."""
    command = [BIN, "--server", server, "job", "submit", store.ROOT / "docs" / "examples" / job_file,
               "--wait", "-o", "json", "--set", f"seed={seed}"]
    for field, value in overrides.items():
        command += ["--set", f"{field}={value}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    job = json.loads(done.stdout or "{}")
    if done.returncode != 0 and job.get("state") != "FAILED":
        sys.exit(f"{job_file} {overrides} seed {seed}: exit code {done.returncode}\n{done.stdout}")
    return job


def result_of(job):
    if job["state"] == "FAILED":  # a result too: most often, that training diverged
        return {"failure": job["failure_message"]}
    last = job["history"][-1]
    seconds = sum(float(r["duration"].rstrip("s")) for r in job["history"])
    evaluated = [r for r in job["history"] if r.get("main_metric") is not None]
    total = lambda field: sum(float(r.get(field, 0)) for r in job["history"])
    return {"best": job["best_metric"], "last": evaluated[-1]["main_metric"], "density": last["density"],
            "weights": int(last["active_weights"]), "explored": last["explored"], "seconds": seconds,
            "flops": total("train_flops"),
            "flops_of_dense": total("train_flops") / (total("dense_train_flops") or math.nan),  # not all are counted
            "megabytes": (total("bytes_sent") + total("bytes_received")) / 1e6 / len(job["history"]),
            "peak_megabytes": max(float(r["worker_peak_memory_bytes"]) for r in job["history"]) / 1e6,
            "metrics": {metric["name"]: metric["value"] for metric in evaluated[-1]["test_metrics"]},
            "curve": [[r["round"], r["main_metric"]] for r in evaluated],
            **({"runs": [{key: run[key] for key in ("name", "density", "last_metric", "best_metric")}
                         for run in job["runs"]]} if job.get("runs") else {}),
            "model_hash": job["model_hash"]}


def protocols(name):
    """A hash for each row of all that decides on its results: the job file, what is overridden, the job before."""
    job_file, rows = EXPERIMENTS[name]
    what = [(store.ROOT / "docs" / "examples" / job_file).read_text(), *filter(None, [PRETRAINING.get(name)])]
    return {row: hashlib.sha256(json.dumps([*what, overrides], sort_keys=True).encode()).hexdigest()[:12]
            for row, overrides in rows.items()}


def current_results(name, recorded=True):
    """Results of the experiment as it is now; those of another job file or other overrides are left out."""
    now = protocols(name)
    return [r for r in store.read(name, recorded) if now.get(r["row"]) == r.get("protocol")]


def pretrain(name, server, seed):
    """Overrides that let a job begin where the job before it has ended, if there is one."""
    if name not in PRETRAINING:
        return {}
    job = submit(server, EXPERIMENTS[name][0], PRETRAINING[name], seed + 100)
    if job["state"] != "SUCCEEDED":
        sys.exit(f"{name}: the job before those of seed {seed} failed: {job['failure_message']}")
    return {"model.pretrained": job["latest_checkpoint"]}


def run_experiment(name, server, arguments):
    job_file, rows = EXPERIMENTS[name]
    results = current_results(name, not arguments.fresh)
    known = {(r["row"], r["seed"]) for r in results}
    # Seed by seed: an interrupted table compares all rows.
    missing = [(seed, row) for seed, row in itertools.product(range(1, arguments.seeds + 1), rows)
               if (row, seed) not in known]
    start = {seed: pretrain(name, server, seed) for seed in {seed for seed, _ in missing}}
    protocol = protocols(name)

    def run(seed, row):
        job = submit(server, job_file, rows[row] | start[seed], seed)
        result = {"row": row, "seed": seed, "protocol": protocol[row], **result_of(job)}
        store.append(name, result)
        print(f"{name}: {row} seed {seed}: " + (f"failed: {result['failure']}" if "failure" in result else
              f"best {result['best']:.4f} last {result['last']:.4f} in {result['seconds']:.0f} s"),
              file=sys.stderr, flush=True)
        return result

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        results += pool.map(run, *zip(*missing)) if missing else []
    return results


def spread(values, scale=1, digits=4):
    """Mean ± standard deviation, the latter of two values or more; nothing without values."""
    if not values:
        return ""
    deviation = f" ± {scale * statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * statistics.mean(values):.{digits}f}{deviation}"


def print_table(name, results):
    print(f"\n{name} ({EXPERIMENTS[name][0]})\n")
    print("| method | seeds | best test accuracy | last test accuracy | density | weights | R_s | FLOPs of dense | "
          "MB a round | s a run |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in EXPERIMENTS[name][1]:
        attempts = [r for r in results if r["row"] == row]
        rows = [r for r in attempts if "failure" not in r]
        if not rows:
            if attempts:
                print(f"| {row} | 0 of {len(attempts)} finished |" + " |" * 8)
            continue
        # Results of versions that did not report a number lack it.
        mean = lambda key: statistics.mean(r.get(key, math.nan) for r in rows)
        seeds = f"{len(rows)}" + (f" of {len(attempts)}" if len(rows) < len(attempts) else "")
        print(f"| {row} | {seeds} | {spread([r['best'] for r in rows])} | "
              f"{spread([r['last'] for r in rows])} | {mean('density'):.4f} | {mean('weights'):.0f} | "
              f"{mean('explored'):.3f} | {mean('flops_of_dense'):.4f} | {mean('megabytes'):.2f} | "
              f"{mean('seconds'):.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help=", ".join(EXPERIMENTS))
    parser.add_argument("--all", action="store_true", help="every experiment")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="worker processes (results do not depend on it)")
    parser.add_argument("--jobs", type=int, default=1,
                        help="jobs at once over these workers: faster in all, each run's seconds are longer")
    parser.add_argument("--fresh", action="store_true", help="do not use recorded results")
    arguments = parser.parse_args()
    names = list(EXPERIMENTS) if arguments.all else arguments.experiments
    unknown = [n for n in names if n not in EXPERIMENTS]
    if unknown or not names:
        parser.error(f"expected experiments out of {', '.join(EXPERIMENTS)}; found {unknown or 'none'}")
    store.OWN.mkdir(parents=True, exist_ok=True)
    for name in names:
        with Cluster(arguments.workers, data_root(name), store.OWN / "cluster" / name) as server:
            print_table(name, run_experiment(name, server, arguments))


if __name__ == "__main__":
    main()
