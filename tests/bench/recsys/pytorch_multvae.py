#!/usr/bin/env python3
"""Quality of a dense MultVAE trained by PyTorch, at the same steps as espalier-bench-recsys --model multvae.

Same data (train.txt and test.txt of `user item item …`), model, batches of users, annealing and Adam; other random numbers.
Prints recall@20 of the test items with training items masked, after every --evaluate-every epochs of --steps steps.
"""
import argparse
import gzip
import json
import os

import numpy as np
import torch


def read(folder, name):
    path = os.path.join(folder, name)
    stream = open(path, encoding="ascii") if os.path.exists(path) else gzip.open(path + ".gz", "rt")
    with stream:
        rows = [[int(word) for word in line.split()] for line in stream]
    return {row[0]: row[1:] for row in rows if len(row) > 1}


def matrix(rows, users, items):
    dense = torch.zeros(users, items)
    for user, own in rows.items():
        dense[user, own] = 1
    return dense


def linear(inputs, outputs):
    layer = torch.nn.Linear(inputs, outputs)
    torch.nn.init.xavier_normal_(layer.weight)
    torch.nn.init.normal_(layer.bias, std=1e-3)
    return layer


class MultVae(torch.nn.Module):
    def __init__(self, items, hidden, latent):
        super().__init__()
        self.encode, self.to_latent = linear(items, hidden), linear(hidden, 2 * latent)
        self.to_hidden, self.to_items = linear(latent, hidden), linear(hidden, items)

    def forward(self, x, draws):
        x = torch.nn.functional.dropout(torch.nn.functional.normalize(x), 0.5, draws)
        mean, log_variance = self.to_latent(torch.tanh(self.encode(x))).chunk(2, dim=1)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean) if draws else mean
        return self.to_items(torch.tanh(self.to_hidden(z))), mean, log_variance


def recall(model, train, test, k):
    with torch.no_grad():
        scores, _, _ = model(train, draws=False)
        scores[train > 0] = -np.inf
        top = scores.topk(k, dim=1).indices
    tested = test.sum(1) > 0
    return (test.gather(1, top).sum(1)[tested] / test.sum(1)[tested]).mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train.txt and test.txt, or .gz")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--steps", type=int, default=40, help="of an epoch")
    parser.add_argument("--evaluate-every", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--anneal-steps", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    train, test = read(args.data, "train.txt"), read(args.data, "test.txt")
    users = max(max(train), max(test)) + 1
    items = max(max(own) for rows in (train, test) for own in rows.values()) + 1
    train, test = matrix(train, users, items), matrix(test, users, items)
    model = MultVae(items, 600, 200)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)
    active = torch.nonzero(train.sum(1) > 0).flatten()
    order, step = [], 0
    for epoch in range(1, args.epochs + 1):
        for _ in range(args.steps):
            if not order:
                order = list(active[torch.randperm(len(active))].split(args.batch))
            x = train[order.pop(0)]
            scores, mean, log_variance = model(x, draws=True)
            likelihood = -(torch.log_softmax(scores, 1) * x).sum(1).mean()
            divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
            loss = likelihood + min(0.2, step / args.anneal_steps) * divergence
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        if epoch % args.evaluate_every == 0:
            print(json.dumps({"epoch": epoch, "loss": round(loss.item(), 3),
                              "recall@20": round(recall(model, train, test, 20), 5)}), flush=True)


if __name__ == "__main__":
    main()
