#!/usr/bin/env python3
"""Perplexity of language models after each way of pruning them, as Markdown tables.

    ESPALIER_DATA=DIR tests/bench/language/table.py stories        one model (see MODELS)
    ESPALIER_DATA=DIR tests/bench/language/table.py --all

DIR has models/stories260K, text/tinystories and text/tinyshakespeare. Text is cut in three: workers calibrate (and
train) on the first part, DSnoT's settings are chosen on the second, and the tables are of the third. Models that
Espalier trains itself are trained first. Starts `espalier up`, submits one job after another, and appends each result
to build/language/<model>.jsonl; what is there already is not run again, so an interrupted run goes on where it stopped.
"""

import argparse
import hashlib
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "bench" / "accuracy"))
import run as accuracy  # noqa: E402

RESULTS = ROOT / "build" / "language"
STARTS = ("magnitude", "wanda", "sparsegpt")
LEVELS = {"50 %": {"sparsity": 0.5}, "60 %": {"sparsity": 0.6}, "70 %": {"sparsity": 0.7}, "2:4": {"pattern": "2:4"}}
# Where settings of DSnoT are chosen, by validation perplexity, and what is tried there.
HALVES = ("attention", "all")
MONOTONE = {"sign_check": "on", "max_cycles": 50, "monotone": True}
CHOICES = {
    "60 %": [{"refine": refine, "sign_check": check, "max_cycles": cycles}
             for refine in HALVES for check in ("on", "off") for cycles in (0, 5, 50)],
    "2:4": [{"refine": refine, "sign_check": "on", "max_cycles": cycles} for refine in HALVES for cycles in (1, 5, 50)]
           + [{"refine": refine, **MONOTONE} for refine in HALVES],
}

TRAINING = {
    "model": {"transformer": {"vocabulary": 128, "hidden": 192, "blocks": 5, "heads": 6, "intermediate": 512}},
    "training": {"batch_size": 16, "local_steps": 50, "schedule": {"kind": "cosine"},
                 "optimizer": {"kind": "adam", "learning_rate": 0.002, "across_rounds": "average"}},
    "federation": {"rounds": 18, "round_deadline": "3600s"},
    "evaluation": {"every_rounds": 6, "central": True},
    "seed": 1,
}
SHAKESPEARE = {"source": "text/tinyshakespeare/input.txt", "parts": (0.9, 0.95),
               "data": {"text": {"context": 128, "tokenizer": "bytes"}, "partition": {"kind": "iid", "shards": 1}},
               # Sequences; small numbers, so that all of it is a matter of minutes.
               "limits": {"train_limit": 32, "test_limit": 128},
               "choices": {"60 %": [{"refine": refine, "sign_check": "on"} for refine in HALVES],
                           "2:4": [{"refine": "all", "sign_check": "on", "max_cycles": 1},
                                   {"refine": "all", **MONOTONE}]}}
MODELS = {
    # A trained LLaMA of 260,000 parameters.
    "stories": {"source": "text/tinystories/tinystories_sample.txt", "parts": (0.6, 0.8),
                    "pretrained": "models/stories260K", "tokenizer": "tok512.bin",
                    "data": {"text": {"context": 512, "tokenizer": "file"}, "partition": {"kind": "iid", "shards": 2}}},
    # Transformers of 2.2 million parameters that read bytes.
    "shakespeare-dense": SHAKESPEARE | {"training": {"name": "dense"}},
    "shakespeare-rigl": SHAKESPEARE | {"training": {"name": "rigl", "parameters": {"density": 0.3}}},
}


def data_root():
    return pathlib.Path(os.environ.get("ESPALIER_DATA", ROOT / "data"))


def prepare(name):
    """Writes the data sets <name>-valid and <name>-test, which share their train.txt."""
    model = MODELS[name]
    text = (data_root() / model["source"]).read_bytes()
    first, second = (text.rindex(b"\n", 0, int(share * len(text))) + 1 for share in model["parts"])
    for split, held_out in (("valid", text[first:second]), ("test", text[second:])):
        folder = RESULTS / "data" / f"{name}-{split}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "train.txt").write_bytes(text[:first])
        (folder / "test.txt").write_bytes(held_out)
        if "tokenizer" in model:
            shutil.copy(data_root() / model["pretrained"] / model["tokenizer"], folder)


class Results:
    """Finished jobs of one model, by what they were asked."""

    def __init__(self, name, server):
        self.path = RESULTS / f"{name}.jsonl"
        self.server = server
        lines = self.path.open() if self.path.exists() else []
        self.known = {(line := json.loads(text))["job"]: line for text in lines}

    def run(self, job, summary):
        """summary(finished job), from the file if it is there."""
        key = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]
        if key not in self.known:
            file = RESULTS / f"job-{key}.yaml"
            file.write_text(json.dumps(job))  # JSON is YAML
            command = [accuracy.BIN, "--server", self.server, "job", "submit", file, "--wait", "-o", "json"]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            file.unlink()
            if done.returncode != 0:
                sys.exit(f"{job['method']} on {job['data']['dataset']}: exit code {done.returncode}\n{done.stdout}")
            line = {"job": key, "dataset": job["data"]["dataset"], "method": job["method"]}
            line |= summary(json.loads(done.stdout))
            self.known[key] = line
            with self.path.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print({k: v for k, v in line.items() if k != "layers"}, file=sys.stderr, flush=True)
        return self.known[key]


def seconds(text):
    return float(text.rstrip("s"))


def summary_of_training(job):
    history = job["history"]
    return {"checkpoint": job["latest_checkpoint"], "density": history[-1]["density"],
            "parameters": int(job["stored_parameters"]),
            "losses": {r["round"]: r["test_loss"] for r in history if "test_loss" in r},
            "compute_seconds": sum(seconds(r["compute_time"]) for r in history)}


def summary_of_pruning(job):
    last = job["history"][-1]
    layers = [layer for r in job["history"] for layer in r["layers"]]
    return {"perplexity": last["perplexity"], "dense_perplexity": last["dense_perplexity"], "density": last["density"],
            "layers": [{k: v for k, v in layer.items() if k not in ("size", "active")} for layer in layers]}


def train(name, results):
    """The checkpoint to prune."""
    model = MODELS[name]
    data = model["data"] | {"dataset": f"{name}-valid"}
    return results.run(TRAINING | {"data": data, "method": model["training"]}, summary_of_training)


def prune(name, results, pretrained, split, method, parameters):
    data = MODELS[name]["data"] | {"dataset": f"{name}-{split}"} | MODELS[name].get("limits", {"train_limit": 128})
    return results.run({"model": {"pretrained": pretrained}, "data": data, "seed": 1,
                        "method": {"name": method,
                                   "parameters": parameters | {"layer_errors": True}}}, summary_of_pruning)


def choose(name, results, pretrained):
    """{level: DSnoT's settings}: lowest perplexity on the validation part, beginning with Wanda's mask."""
    best = {}
    for level, choices in MODELS[name].get("choices", CHOICES).items():
        tried = [(prune(name, results, pretrained, "valid", "dsnot", LEVELS[level] | more)["perplexity"], i)
                 for i, more in enumerate(choices)]
        best[level] = choices[min(tried)[1]]
        print(f"\n{name}, {level}: chosen on the validation part: {best[level]}", flush=True)
    return {level: best.get(level, best["60 %"]) for level in LEVELS}


def mean(result, field):
    """Over the layers that have it."""
    values = [layer[field] for layer in result["layers"] if field in layer]
    return statistics.mean(values) if values else math.nan


def refined(result, before, after):
    """Root mean squares over the layers that were refined."""
    pairs = [(layer[before], layer.get(after, 0)) for layer in result["layers"] if before in layer]
    if not pairs:
        return "—"
    return " → ".join(f"{math.sqrt(statistics.mean(v * v for v in column)):.4f}" for column in zip(*pairs))


def print_table(name, results, pretrained):
    settings = choose(name, results, pretrained)
    print("\n| sparsity | start | perplexity | + DSnoT | + DSnoT, defaults | layer error | refined layers: error | "
          "exchanges |\n" + "| --- " * 8 + "|")
    for level, parameters in LEVELS.items():
        for start in STARTS:
            plain = prune(name, results, pretrained, "test", start, parameters)
            one, defaults = (
                prune(name, results, pretrained, "test", "dsnot", parameters | {"init": start} | more)
                for more in (settings[level], {}))
            exchanged = sum(int(layer.get("exchanged", 0)) for layer in one["layers"])
            print(f"| {level} | {start} | {plain['perplexity']:.3f} | {one['perplexity']:.3f} | "
                  f"{defaults['perplexity']:.3f} | {mean(plain, 'output_error'):.4f} | "
                  f"{refined(one, 'initial_output_error', 'output_error')} | {exchanged} |", flush=True)
    print(f"\nunpruned: {plain['dense_perplexity']:.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--all", action="store_true", help="every model")
    parser.add_argument("--train-only", action="store_true", help="stop after the training jobs")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (results do not depend on it)")
    arguments = parser.parse_args()
    names = list(MODELS) if arguments.all else arguments.models
    unknown = [name for name in names if name not in MODELS]
    if unknown or not names:
        parser.error(f"expected models out of {', '.join(MODELS)}; found {unknown or 'none'}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names:
        prepare(name)
        more = ("--models", str(data_root() / "models"))
        with accuracy.Cluster(arguments.workers, RESULTS / "data", RESULTS / "cluster" / name, more) as server:
            results = Results(name, server)
            model = MODELS[name]
            trained = train(name, results) if "training" in model else None
            if trained:
                print(f"\n{name}: {trained['parameters']} parameters, density {trained['density']:.3f}, validation "
                      f"loss by round {trained['losses']}, {trained['compute_seconds'] / 60:.1f} minutes on one thread",
                      flush=True)
            if not arguments.train_only:
                print_table(name, results, trained["checkpoint"] if trained else pathlib.Path(model["pretrained"]).name)


if __name__ == "__main__":
    main()
