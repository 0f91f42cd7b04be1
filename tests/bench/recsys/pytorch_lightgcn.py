#!/usr/bin/env python3
"""Time and memory of training steps of a dense LightGCN in PyTorch.

The peer of espalier-bench-recsys: same data, graph, layers, batch, loss and Adam. Triples are drawn before the
clock starts, which favours PyTorch. Prints one JSON object; an epoch is extrapolated from --steps.
"""
import argparse
import gzip
import json
import math
import os
import resource
import time
import warnings

import numpy as np
import torch


def read(folder):
    path = os.path.join(folder, "train.txt")
    stream = open(path, encoding="ascii") if os.path.exists(path) else gzip.open(path + ".gz", "rt")
    users, items = [], []
    with stream:
        for line in stream:
            numbers = [int(word) for word in line.split()]
            users += numbers[:1] * (len(numbers) - 1)
            items += numbers[1:]
    return np.array(users), np.array(items)


def make_graph(users, items, num_users, num_items):
    source = np.concatenate([users, items + num_users])
    target = np.concatenate([items + num_users, users])
    degree = np.bincount(source, minlength=num_users + num_items)
    values = (1 / np.sqrt(degree[source] * degree[target])).astype(np.float32)
    graph = torch.sparse_coo_tensor(np.stack([source, target]), torch.from_numpy(values),
                                    (num_users + num_items,) * 2)
    return graph.coalesce()


def draw(rng, users, items, num_users, num_items, batch):
    first = np.searchsorted(users, np.arange(num_users + 1))
    user = rng.integers(0, num_users, batch)
    count = first[user + 1] - first[user]
    positive = items[first[user] + (rng.random(batch) * count).astype(np.int64)]
    negative = rng.integers(0, num_items, batch)
    return [torch.from_numpy(ids) for ids in (user, num_users + positive, num_users + negative)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train.txt or train.txt.gz")
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--l2", type=float, default=1e-4)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    users, items = read(args.data)
    num_users, num_items = int(users.max()) + 1, int(items.max()) + 1
    graph = make_graph(users, items, num_users, num_items)
    table = torch.nn.Parameter(torch.empty(num_users + num_items, args.dimensions))
    torch.nn.init.xavier_uniform_(table)
    optimizer = torch.optim.Adam([table], lr=0.01)
    rng = np.random.default_rng(1)
    seconds, cpu_seconds = [], []
    for _ in range(args.steps):
        triple = draw(rng, users, items, num_users, num_items, args.batch)
        start, cpu_start = time.perf_counter(), time.process_time()
        layer = total = table
        for _ in range(args.layers):
            layer = torch.sparse.mm(graph, layer)
            total = total + layer
        user, positive, negative = ((total / (args.layers + 1))[ids] for ids in triple)
        difference = (user * (negative - positive)).sum(1)
        squares = sum(table[ids].square().sum() for ids in triple)
        loss = torch.nn.functional.softplus(difference).mean() + args.l2 / 2 * squares / args.batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    steps = math.ceil(len(users) / args.batch)
    print(json.dumps({
        "batch": args.batch, "threads": torch.get_num_threads(), "step_ms": round(min(seconds) * 1e3, 2),
        "step_cpu_ms": round(min(cpu_seconds) * 1e3, 2),
        "epoch_steps": steps, "epoch_seconds_extrapolated": round(min(seconds) * steps, 1),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "loss": round(loss.item(), 5)}))


if __name__ == "__main__":
    main()
