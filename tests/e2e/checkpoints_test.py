"""A downloaded checkpoint, read by other people's libraries, is the network the job reported."""

import gzip
import json
import unittest

import numpy
import safetensors

import cluster
from cluster import example

METHODS = ("dense", "static", "set", "rigl")
TEST_ROWS = 360
SCALE = 16


def digits_test_part():
    with gzip.open(cluster.DATA / "digits/digits.csv.gz") as file:
        table = numpy.loadtxt(file, delimiter=",")
    return table[-TEST_ROWS:, :-1] / SCALE, table[-TEST_ROWS:, -1].astype(int)


def load(path):
    """[(weight, bias, stored weights)] of the layers, and the metadata."""
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        layout = json.loads(metadata["layout"])
        tensors = {spec["name"]: (dense(file, spec), stored(file, spec)) for spec in layout}
    count = len({name.split(".")[1] for name in tensors})
    layers = [
        (
            tensors[f"layers.{i}.weight"][0],
            tensors[f"layers.{i}.bias"][0],
            tensors[f"layers.{i}.weight"][1],
        )
        for i in range(count)
    ]
    return layers, metadata


def dense(file, spec):
    name, shape = spec["name"], spec["shape"]
    if not spec["sparse"]:
        return file.get_tensor(name).reshape(shape)
    offsets = file.get_tensor(f"{name}.row_offsets")
    matrix = numpy.zeros(shape, numpy.float32)
    rows = numpy.repeat(numpy.arange(shape[0]), numpy.diff(offsets))
    matrix[rows, file.get_tensor(f"{name}.columns")] = file.get_tensor(f"{name}.values")
    return matrix


def stored(file, spec):
    return (
        len(file.get_tensor(f"{spec['name']}.values"))
        if spec["sparse"]
        else int(numpy.prod(spec["shape"]))
    )


def forward(layers, features):
    activation = features
    for i, (weight, bias, _) in enumerate(layers):
        activation = activation @ weight.T.astype(numpy.float64) + bias
        if i + 1 < len(layers):
            activation = numpy.maximum(activation, 0)
    return activation


class CheckpointsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2))
        cls.features, cls.labels = digits_test_part()

    def check(self, method):
        job = self.cluster.run(*example(f"digits-{method}", 4))
        path = self.cluster.folder / f"{method}.safetensors"
        self.cluster.cli("checkpoint", "get", job["latest_checkpoint"], "-O", path).ok()
        layers, metadata = load(path)
        last = job["history"][-1]

        self.assertEqual(int(last["active_weights"]), sum(nnz for _, _, nnz in layers))
        self.assertEqual(
            int(job["stored_parameters"]), sum(nnz + len(bias) for _, bias, nnz in layers)
        )
        self.assertEqual(
            [(500, 64), (500, 500), (10, 500)], [weight.shape for weight, _, _ in layers]
        )
        outputs = forward(layers, self.features)
        correct = int((outputs.argmax(axis=1) == self.labels).sum())
        self.assertAlmostEqual(last["test_accuracy"], correct / TEST_ROWS, delta=1e-9)
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        losses = (
            numpy.log(numpy.exp(shifted).sum(axis=1))
            - shifted[numpy.arange(TEST_ROWS), self.labels]
        )
        self.assertAlmostEqual(last["test_loss"], losses.mean(), delta=1e-5)

        self.assertEqual("espalier.checkpoint", metadata["format"])
        self.assertEqual(
            (job["name"].removeprefix("jobs/"), "4"),
            (metadata["job"].removeprefix("jobs/"), metadata["round"]),
        )
        self.assertAlmostEqual(last["density"], float(metadata["density"]), delta=1e-9)
        self.assertAlmostEqual(last["test_accuracy"], float(metadata["main_metric"]), delta=1e-9)

    def test_dense(self):
        self.check("dense")

    def test_static(self):
        self.check("static")

    def test_set(self):
        self.check("set")

    def test_rigl(self):
        self.check("rigl")


if __name__ == "__main__":
    unittest.main()
