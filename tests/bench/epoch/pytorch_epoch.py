#!/usr/bin/env python3
"""Time and memory of training epochs of a dense network in PyTorch: a perceptron or a ResNet-20.

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


class Block(torch.nn.Module):
    """Two 3 x 3 convolutions with batch norm around a shortcut (He et al. 2015, option B)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            torch.nn.BatchNorm2d(outputs), torch.nn.ReLU(inplace=True),
            torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            torch.nn.BatchNorm2d(outputs))
        self.shortcut = torch.nn.Sequential()
        if stride != 1:
            self.shortcut = torch.nn.Sequential(
                torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                torch.nn.BatchNorm2d(outputs))

    def forward(self, inputs):
        return torch.relu(self.body(inputs) + self.shortcut(inputs))


def make_resnet20():
    layers = [torch.nn.Unflatten(1, (3, 32, 32)), torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False),
              torch.nn.BatchNorm2d(16), torch.nn.ReLU(inplace=True)]
    inputs = 16
    for outputs in (16, 32, 64):
        for number in range(3):
            layers.append(Block(inputs, outputs, 2 if number == 0 and outputs > 16 else 1))
            inputs = outputs
    layers += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 10)]
    return torch.nn.Sequential(*layers)


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
    parser.add_argument("--model", choices=["resnet20"], help="instead of --arch")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", help="folder with data_batch_*.bin; synthetic data without it")
    parser.add_argument("--examples", type=int, default=50000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(7)
    sizes = [3072, 10] if options.model else [int(size) for size in options.arch.split("-")]
    inputs, labels = load(options.data, options.examples, sizes[0], sizes[-1])
    network = make_resnet20() if options.model else make_network(sizes)
    optimizer = torch.optim.SGD(network.parameters(), lr=options.learning_rate, momentum=0.9,
                                nesterov=True)
    epochs = [run_epoch(network, optimizer, inputs, labels, options.batch)
              for _ in range(options.epochs)]
    print(json.dumps({
        "arch": options.model or options.arch, "density": 1, "batch": options.batch, "threads": options.threads,
        "examples": len(inputs),
        "epoch_seconds_median": round(statistics.median(seconds for seconds, _ in epochs), 4),
        "epoch_seconds_min": round(min(seconds for seconds, _ in epochs), 4),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "train_loss": round(epochs[-1][1], 5)}))


if __name__ == "__main__":
    main()
