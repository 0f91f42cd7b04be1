#!/usr/bin/env python3
"""Writes values.json: examples, what a model might say of them, and what scikit-learn calls that.

    python3 -m venv venv && venv/bin/pip install scikit-learn
    venv/bin/python tests/golden/metrics/record.py
"""

import json
import pathlib

import numpy
import sklearn.metrics as metrics

rng = numpy.random.default_rng(7)


def rounded(values):
    """As they are written, so that both sides see the same numbers."""
    return numpy.round(values, 6)


def classes(examples, count):
    labels = rng.integers(0, count, examples)
    logits = rounded(rng.normal(size=(examples, count)) + 1.2 * numpy.eye(count)[labels])
    exponentials = numpy.exp(logits)
    shares = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = {
        "accuracy": metrics.accuracy_score(labels, logits.argmax(axis=1)),
        "log_loss": metrics.log_loss(labels, shares, labels=range(count)),
    }
    if count > 5:
        expected["top_5_accuracy"] = metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(count))
    if count == 2:
        expected["auc"] = metrics.roc_auc_score(labels, shares[:, 1])
    confusion = metrics.confusion_matrix(labels, logits.argmax(axis=1), labels=range(count))
    return {"target": "class", "outputs": logits.tolist(), "labels": labels.tolist(),
            "confusion": confusion.ravel().tolist(), "expected": expected}


def labels(examples, count):
    targets = (rng.random((examples, count)) < 0.3).astype(int)
    shares = rounded(1 / (1 + numpy.exp(-rng.normal(size=(examples, count)) - 2 * targets + 1)))
    taken = shares >= 0.5
    return {"target": "labels", "outputs": shares.tolist(), "targets": targets.tolist(), "expected": {
        "f1_micro": metrics.f1_score(targets, taken, average="micro"),
        "f1_macro": metrics.f1_score(targets, taken, average="macro"),
        "average_precision": metrics.average_precision_score(targets, shares, average="macro"),
    }}


def values(examples, count):
    targets = rounded(rng.normal(3, 2, (examples, count)))
    outputs = rounded(targets + rng.normal(0.1, 0.7, (examples, count)))
    return {"target": "values", "outputs": outputs.tolist(), "targets": targets.tolist(), "expected": {
        "mse": metrics.mean_squared_error(targets, outputs),
        "rmse": metrics.mean_squared_error(targets, outputs) ** 0.5,
        "mae": metrics.mean_absolute_error(targets, outputs),
        "r2": metrics.r2_score(targets, outputs),
    }}


def main():
    cases = [classes(90, 2), classes(80, 7), labels(120, 3), values(60, 2), values(40, 1)]
    path = pathlib.Path(__file__).with_name("values.json")
    path.write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
