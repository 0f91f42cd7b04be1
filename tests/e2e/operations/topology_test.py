"""GetTopology against the weights in the checkpoint files themselves."""

import pathlib
import sys
import tempfile
import unittest

import grpc
import numpy
from safetensors.numpy import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import digits_job
from python_client_test import generate_stubs


def matrix(file, name, shape):
    """A tensor of a checkpoint as a dense matrix, and where its weights exist."""
    tensors = load_file(file)
    if name in tensors:
        dense = tensors[name].reshape(shape)
        return dense, numpy.ones(shape, bool)
    offsets, columns, values = (tensors[f"{name}.{part}"] for part in ("row_offsets", "columns", "values"))
    dense, exists = numpy.zeros(shape, numpy.float32), numpy.zeros(shape, bool)
    for row in range(shape[0]):
        at = slice(offsets[row], offsets[row + 1])
        dense[row, columns[at]] = values[at]
        exists[row, columns[at]] = True
    return dense, exists


def cells(values, rows, columns):
    """Sums over the cells of a grid, of which cell i begins with i · size // number."""
    edges = [[i * size // number for i in range(number)] for size, number in zip(values.shape, (rows, columns), strict=True)]
    return numpy.add.reduceat(numpy.add.reduceat(values, edges[0], axis=0), edges[1], axis=1)


class TopologyTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        stubs = generate_stubs(cls.folder)
        cls.api = stubs["structure"]
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=1))
        cls.cluster.run(digits_job(4, checkpoint={"every_rounds": 1, "keep": 4}), "--name", "a")
        cls.cluster.run(digits_job(1), "--name", "other")
        channel = cls.enterClassContext(grpc.insecure_channel(cls.cluster.address))
        cls.stub = stubs["structure_grpc"].StructureServiceStub(channel)
        cls.files = {}
        for name in ("a-1", "a-4"):
            cls.files[name] = cls.folder / name
            cls.cluster.cli("checkpoint", "get", name, "-O", str(cls.files[name])).ok()

    def ask(self, checkpoint="a-4", **fields):
        fields = {key: f"checkpoints/{value}" if key == "compare_to" else value for key, value in fields.items()}
        return self.stub.GetTopology(self.api.GetTopologyRequest(checkpoint=f"checkpoints/{checkpoint}", **fields), timeout=20)

    def refused(self, code, words, **fields):
        with self.assertRaises(grpc.RpcError) as error:
            self.ask(**fields)
        self.assertEqual(code, error.exception.code(), error.exception.details())
        self.assertIn(words, error.exception.details())

    def test_every_tensor_in_every_grid_is_that_of_the_file(self):
        first = self.ask()
        self.assertTrue(first.tensors[0].sparse)
        for tensor in first.tensors:
            dense, exists = matrix(self.files["a-4"], tensor.name, (tensor.rows, tensor.columns))
            self.assertEqual(int(exists.sum()), tensor.active)
            for bins in (1, 7, 64, 512):
                with self.subTest(tensor=tensor.name, bins=bins):
                    got = self.ask(tensor=tensor.name, bins=bins)
                    shape = (min(bins, tensor.rows), min(bins, tensor.columns))
                    self.assertEqual(shape, (got.grid_rows, got.grid_columns))
                    numpy.testing.assert_array_equal(cells(exists.astype(int), *shape), numpy.reshape(got.active, shape))
                    numpy.testing.assert_allclose(
                        cells(numpy.abs(dense, dtype=float), *shape), numpy.reshape(got.strength, shape), rtol=1e-9)
                    for axis, bars in ((1, got.row_degrees), (0, got.column_degrees)):
                        degrees = exists.sum(axis=axis)
                        for bar in bars:
                            inside = (degrees >= bar.degree) & (degrees <= max(bar.degree, bar.last_degree))
                            self.assertEqual(int(inside.sum()), bar.units)
                        self.assertEqual(len(degrees), sum(bar.units for bar in bars))
        dense, _ = matrix(self.files["a-4"], first.tensor, (first.rows, first.columns))
        numpy.testing.assert_allclose(numpy.abs(dense, dtype=float).sum(axis=0), first.column_strength, rtol=1e-9)

    def test_what_came_and_went_since_another_round(self):
        got = self.ask(compare_to="a-1", bins=16)
        _, before = matrix(self.files["a-1"], got.tensor, (got.rows, got.columns))
        _, now = matrix(self.files["a-4"], got.tensor, (got.rows, got.columns))
        self.assertGreater(got.grown_total, 0)
        self.assertEqual((int((now & ~before).sum()), int((before & ~now).sum())), (got.grown_total, got.dropped_total))
        shape = (got.grid_rows, got.grid_columns)
        numpy.testing.assert_array_equal(cells((now & ~before).astype(int), *shape), numpy.reshape(got.grown, shape))
        numpy.testing.assert_array_equal(cells((before & ~now).astype(int), *shape), numpy.reshape(got.dropped, shape))

    def test_mistakes_are_told(self):
        code = grpc.StatusCode
        self.refused(code.NOT_FOUND, "layers.0.weight", tensor="layers.9.weight")
        self.refused(code.NOT_FOUND, "checkpoint", checkpoint="nobody-1")
        self.refused(code.INVALID_ARGUMENT, "bins", bins=513)
        self.refused(code.INVALID_ARGUMENT, "bins", bins=-1)
        self.refused(code.INVALID_ARGUMENT, "jobs/a", compare_to="other-1")

    def test_a_damaged_file_is_named(self):
        self.cluster.run(digits_job(1), "--name", "hurt")
        [file] = self.cluster.data_dir.glob("checkpoints/**/hurt-1*")
        file.write_bytes(file.read_bytes()[:-100])
        self.refused(grpc.StatusCode.DATA_LOSS, "damaged", checkpoint="hurt-1")


if __name__ == "__main__":
    unittest.main()
