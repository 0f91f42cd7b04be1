"""Perplexities and masks of pruned models are those of an independent implementation in numpy (../support/reference_pruning.py).

The model has two blocks, so that the second sees what pruning the first has done, and grouped heads.
"""

import json
import pathlib
import shutil
import tempfile
import unittest

import numpy
import safetensors.numpy

import cluster
import pruning_test
import reference_pruning as reference
from pruning_test import CONFIG, CONTEXT

WORDS = 40
# float32 against float64.
RELATIVE = 1e-4
# Weights whose scores differ in the last bits of float32 may be exchanged, two at most; each exchange is two places of a mask.
DIFFERENT_PLACES = 4


def only_attention(refined, other):
    """DSnoT refines attention by default; the other half keeps its first mask."""

    def rule(layer, weights, moments):
        return (refined if layer in reference.ATTENTION else other)(weights, moments)

    return rule


def everywhere(function, **options):
    return lambda layer, weights, moments: function(weights, moments, **options)


def dsnot(**options):
    return lambda weights, moments: reference.dsnot(weights, moments, tokens=CONTEXT, **options)


def wanda(**options):
    return lambda weights, moments: reference.wanda(weights, moments, **options)


def magnitude_by_rows(sparsity):
    def rule(weights, _):
        return weights * reference.by_rows(numpy.abs(weights), sparsity, None)

    return rule


CASES = {
    "magnitude, half": ("magnitude", {"sparsity": 0.5}, everywhere(reference.magnitude)),
    "magnitude, 2:4": ("magnitude", {"pattern": "2:4"}, everywhere(reference.magnitude, pattern=(2, 4))),
    "wanda, half": ("wanda", {"sparsity": 0.5}, everywhere(reference.wanda)),
    "wanda, 70 %": ("wanda", {"sparsity": 0.7}, everywhere(reference.wanda, sparsity=0.7)),
    "wanda, 2:4": ("wanda", {"pattern": "2:4"}, everywhere(reference.wanda, pattern=(2, 4))),
    "wanda, cumulative": (
        "wanda",
        {"sparsity": 0.5, "cumulative": True},
        everywhere(reference.wanda_cumulative),
    ),
    "sparsegpt, half": ("sparsegpt", {"sparsity": 0.5}, everywhere(reference.sparsegpt)),
    "sparsegpt, blocks of 8 columns": (
        "sparsegpt",
        {"sparsity": 0.6, "block": 8},
        everywhere(reference.sparsegpt, sparsity=0.6, block=8),
    ),
    "sparsegpt, 2:4": ("sparsegpt", {"pattern": "2:4"}, everywhere(reference.sparsegpt, pattern=(2, 4))),
    "dsnot": ("dsnot", {"sparsity": 0.6}, only_attention(dsnot(sparsity=0.6), wanda(sparsity=0.6))),
    "dsnot, from magnitude": (
        "dsnot",
        {"sparsity": 0.5, "init": "magnitude"},
        only_attention(dsnot(init="magnitude"), magnitude_by_rows(0.5)),
    ),
    "dsnot, five cycles everywhere": (
        "dsnot",
        {"sparsity": 0.6, "max_cycles": 5, "refine": "all"},
        lambda layer, weights, moments: dsnot(sparsity=0.6, cycles=5)(weights, moments),
    ),
}


BASE = 500_000.0
# How programs write the base of rotary positions into config.json.
ROTARY = {
    "top-level": {"rope_theta": BASE},
    "in-parameters": {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": BASE}},
    "scaling-that-scales-nothing": {"rope_theta": BASE, "rope_scaling": {"rope_type": "default"}},
}
ROTARY["scaled"] = {
    "rope_theta": None,
    "rope_parameters": {"rope_type": "llama3", "rope_theta": BASE, "factor": 8.0, "low_freq_factor": 1.0}
    | {"high_freq_factor": 4.0, "original_max_position_embeddings": CONTEXT},
}


class GoldenPruningTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.model = cls.folder / "models" / "tiny"
        pruning_test.write_model(cls.model)
        cls.tensors = safetensors.numpy.load_file(cls.model / "model.safetensors")
        for name, changes in ROTARY.items():
            folder = cls.folder / "models" / name
            folder.mkdir()
            shutil.copy(cls.model / "model.safetensors", folder)
            config = {key: value for key, value in (CONFIG | changes).items() if value is not None}
            (folder / "config.json").write_text(json.dumps(config))
        cls.train = cls.write_text("train", seed=9, words=900)
        cls.test = cls.write_text("test", seed=10, words=300)
        cls.cluster = cls.enterClassContext(
            cluster.Cluster(
                workers=2,
                data_root=cls.folder / "data",
                coordinator=("--models", cls.folder / "models"),
            )
        )

    @classmethod
    def write_text(cls, part, seed, words):
        """Writes a text, and returns its sequences of CONTEXT bytes with the byte after them."""
        random = pruning_test.Random(seed)
        known = ["".join(chr(97 + random.bits() % 26) for _ in range(2 + i % 5)) for i in range(WORDS)]
        text = " ".join(known[random.bits() % WORDS] for _ in range(words)).encode()
        folder = cls.folder / "data" / "words"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{part}.txt").write_bytes(text)
        count = (len(text) - 1) // CONTEXT
        return [list(text[i * CONTEXT : (i + 1) * CONTEXT + 1]) for i in range(count)]

    def job(self, method, parameters, model="tiny"):
        return {
                "model": {"pretrained": model},
                "data": {
                    "dataset": "words",
                    "text": {"context": CONTEXT},
                    "partition": {"kind": "iid", "shards": 3},
                },
                "method": {"name": method, "parameters": parameters},
            }

    def prune(self, *arguments):
        return self.cluster.run(self.job(*arguments))

    def pruned_tensors(self, job):
        folder = self.folder / job["name"].replace("/", "-")
        self.cluster.cli("checkpoint", "get", job["latest_checkpoint"], "--format", "hf", "-O", folder).ok()
        return safetensors.numpy.load_file(folder / "model.safetensors")

    def assert_close(self, expected, found):
        self.assertLess(abs(found - expected), RELATIVE * expected, f"expected {expected}, found {found}")

    def test_perplexities_and_masks_are_the_reference_s(self):
        dense = reference.Model(CONFIG, self.tensors).perplexity(self.test)
        perplexities = {}
        for name, (method, parameters, rule) in CASES.items():
            with self.subTest(name):
                expected = reference.prune(CONFIG, self.tensors, self.train, rule)
                job = self.prune(method, parameters)
                last = job["history"][-1]
                self.assert_close(dense, last["dense_perplexity"])
                self.assert_close(expected.perplexity(self.test), last["perplexity"])
                perplexities[name] = last["perplexity"]
                found = self.pruned_tensors(job)
                different = sum(
                    int(numpy.sum((tensor != 0) != (expected.tensors[key] != 0)))
                    for key, tensor in found.items()
                    if "_proj" in key
                )
                self.assertLessEqual(different, DIFFERENT_PLACES)
        # The cases tell the methods apart: no two have the same perplexity to within what is compared.
        values = sorted(perplexities.values())
        for a, b in zip(values, values[1:]):
            self.assertGreater(b - a, 2 * RELATIVE * a, json.dumps(perplexities))

    def test_the_comparison_notices_wrong_implementations(self):
        """Mistakes that were made once, or could be: each moves the perplexity by more than is compared."""
        same = reference.Model(CONFIG, self.tensors)
        dense = same.perplexity(self.test)
        pruned = reference.prune(CONFIG, self.tensors, self.train, everywhere(reference.wanda))
        pruned = pruned.perplexity(self.test)
        other_base = reference.Model(CONFIG | {"rope_theta": 500000.0}, self.tensors)
        other_text = reference.prune(CONFIG, self.tensors, self.test, everywhere(reference.wanda))
        wrong = {
            "calibrated on the dense model's inputs": (pruned, self.without_pruned_inputs()),
            "calibrated on the test text": (pruned, other_text.perplexity(self.test)),
            "another base of rotary positions": (dense, other_base.perplexity(self.test)),
            "evaluated on the training text": (dense, same.perplexity(self.train)),
        }
        for name, (right, found) in wrong.items():
            with self.subTest(name):
                self.assertGreater(abs(found - right), 2 * RELATIVE * right)

    def test_every_spelling_of_the_base_of_rotary_positions_is_the_same_model(self):
        expected = reference.Model(CONFIG | {"rope_theta": BASE}, self.tensors).perplexity(self.test)
        found = set()
        for name in [name for name in ROTARY if name != "scaled"]:
            with self.subTest(name):
                last = self.prune("magnitude", {"sparsity": 0.5}, name)["history"][-1]
                self.assert_close(expected, last["dense_perplexity"])
                found.add(last["dense_perplexity"])
        self.assertEqual(1, len(found))

    def test_scaled_rotary_positions_are_refused_by_name(self):
        file = self.cluster.file(self.job("magnitude", {"sparsity": 0.5}, "scaled"))
        refused = self.cluster.cli("job", "submit", file)
        self.assertNotEqual(0, refused.code)
        self.assertIn("'llama3' in rope_parameters", " ".join(refused.err.split()))

    def without_pruned_inputs(self):
        model = reference.Model(CONFIG, self.tensors)
        x, pruned = model.embed(self.train), dict(model.tensors)
        for number in model.blocks():
            x, inputs = model.block(x, number)
            for layer, values in inputs.items():
                name = f"model.layers.{number}.{layer}.weight"
                pruned[name] = reference.wanda(model.tensors[name], reference.moments(values))
        return reference.Model(CONFIG, pruned).perplexity(self.test)


if __name__ == "__main__":
    unittest.main()
