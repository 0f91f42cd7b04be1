#!/usr/bin/env python3
"""Perplexity of stories260K dense, pruned, and trained further with its mask kept, as a Markdown table.

    ESPALIER_DATA=DIR tests/bench/language/finetune.py [--seeds 5]

DIR has models/stories260K and text/tinystories; text is cut as table.py does. For each pruner and sparsity a job prunes with all of
the text, so that seeds make no difference, and for each seed a job of method finetune goes on from its checkpoint, over two
participants with half of the text each. Appends each result to
build/language/cluster/finetune, beside the checkpoints that they name; what is there already is not run again, so an
interrupted run goes on where it stopped.
"""

import argparse
import itertools
import statistics

import table

PRUNERS = {"wanda": {"name": "wanda"},
           "dsnot": {"name": "dsnot", "parameters": {"init": "wanda", "sign_check": "on"}}}
SPARSITIES = (0.5, 0.6, 0.7)
DATA = {"dataset": "stories-test", "text": {"context": 256, "tokenizer": "file"},
        "partition": {"kind": "iid", "shards": 2}}
TUNING = {
    "training": {"batch_size": 8, "local_steps": 10, "schedule": {"kind": "cosine"},
                 "optimizer": {"kind": "adam", "learning_rate": 0.001, "across_rounds": "average"}},
    "federation": {"rounds": 10},
    "evaluation": {"central": True, "every_rounds": 10},
}


def pruned(results, pruner, sparsity):
    """A job that prunes: its checkpoint, and the perplexity of the model before and after."""
    method = dict(PRUNERS[pruner])
    method["parameters"] = method.get("parameters", {}) | {"sparsity": sparsity}
    job = {"model": {"pretrained": "stories260K"}, "data": DATA, "method": method, "seed": 1}
    return results.run(job, lambda done: {"checkpoint": done["latest_checkpoint"],
                                          "dense": done["history"][-1]["dense_perplexity"],
                                          "perplexity": done["history"][-1]["perplexity"]})


def tuned(results, begin, of, seed):
    """A job that trains further what `of` says, from the model of that name."""
    job = TUNING | {"model": {"pretrained": begin}, "data": DATA, "method": {"name": "finetune"}, "seed": seed,
                    "display_name": of}
    return results.run(job, lambda done: {"perplexity": done["history"][-1]["perplexity"],
                                          "density": done["history"][-1]["density"],
                                          "hash": done["model_hash"]})


def spread(values):
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    table.prepare("stories")
    state = table.RESULTS / "cluster" / "finetune"
    models = ["--models", str(table.data_root() / "models")]
    with table.accuracy.Cluster(2, table.RESULTS / "data", state, models) as server:
        results = table.Results("cluster/finetune/results", server)

        def tune(begin, of):
            return spread([tuned(results, begin, of.format(seed), seed)["perplexity"]
                           for seed in range(1, arguments.seeds + 1)])

        print("| pruned by | weights gone | pruned | finetuned |\n| --- | --- | --- | --- |")
        after = tune("stories260K", "dense")
        for number, (pruner, sparsity) in enumerate(itertools.product(PRUNERS, SPARSITIES)):
            before = pruned(results, pruner, sparsity)
            if number == 0:
                print(f"| not at all | 0 % | {before['dense']:.2f} | {after} |")
            after = tune(before["checkpoint"], f"{pruner} {sparsity} seed {{}}")
            print(f"| {pruner} | {100 * sparsity:.0f} % | {before['perplexity']:.2f} | {after} |", flush=True)


if __name__ == "__main__":
    main()
