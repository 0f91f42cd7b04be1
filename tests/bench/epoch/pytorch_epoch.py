#!/usr/bin/env python3
"""Time and memory of training epochs of a dense multilayer perceptron in PyTorch.

The peer of espalier-bench-epoch: same network, batch, optimizer, initialisation rule and data. The data
is float32 and normalised before the clock starts, which favours PyTorch. Prints one JSON object.
"""
import argparse
import json
import pathlib
import resource
import statistics
import time

import numpy as np
import torch


def load(folder, examples, features, classes):
    if folder is None:
        rng = np.random.default_rng(1)
        pixels = rng.integers(0, 256, (examples, features), dtype=np.uint8)
        labels = rng.integers(0, classes, examples)
    else:
        files = sorted(pathlib.Path(folder).glob("data_batch_*.bin"))
        if not files:
            raise SystemExit(f"no data_batch_*.bin in {folder}")
        rows = np.concatenate([np.fromfile(f, dtype=np.uint8).reshape(-1, 3073) for f in files])
        pixels, labels = rows[:, 1:], rows[:, 0]
    inputs = (pixels.astype(np.float32) / 255 - 0.5) / 0.25
    return torch.from_numpy(inputs), torch.from_numpy(labels.astype(np.int64))


def make_network(sizes):
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layer = torch.nn.Linear(inputs, outputs)
        torch.nn.init.normal_(layer.weight, std=(2 / inputs) ** 0.5)
        torch.nn.init.zeros_(layer.bias)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def run_epoch(network, optimizer, inputs, labels, batch):
    loss_sum = 0.0
    start = time.perf_counter()
    order = torch.randperm(len(inputs))
    for first in range(0, len(inputs), batch):
        chosen = order[first:first + batch]
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(network(inputs[chosen]), labels[chosen])
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(chosen)
    return time.perf_counter() - start, loss_sum / len(inputs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="3072-1024-1024-10")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", help="folder with data_batch_*.bin; synthetic data without it")
    parser.add_argument("--examples", type=int, default=50000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(7)
    sizes = [int(size) for size in options.arch.split("-")]
    inputs, labels = load(options.data, options.examples, sizes[0], sizes[-1])
    network = make_network(sizes)
    optimizer = torch.optim.SGD(network.parameters(), lr=options.learning_rate, momentum=0.9,
                                nesterov=True)
    epochs = [run_epoch(network, optimizer, inputs, labels, options.batch)
              for _ in range(options.epochs)]
    print(json.dumps({
        "arch": options.arch, "density": 1, "batch": options.batch, "threads": options.threads,
        "examples": len(inputs),
        "epoch_seconds_median": round(statistics.median(seconds for seconds, _ in epochs), 4),
        "epoch_seconds_min": round(min(seconds for seconds, _ in epochs), 4),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "train_loss": round(epochs[-1][1], 5)}))


if __name__ == "__main__":
    main()
