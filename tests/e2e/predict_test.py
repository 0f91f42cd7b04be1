"""`espalier predict` and PredictService for each family of models, compared with our own arithmetic in NumPy on the
checkpoint's file."""

import contextlib
import csv
import io
import json
import pathlib
import tempfile
import unittest

import grpc
import numpy
import safetensors

import cluster
import datasets
from python_client_test import generate_stubs

ROWS = 240
COLOURS = ["blue", "green", "red"]


class Model:
    """A checkpoint file: its tensors as dense arrays, and what its header says."""

    def __init__(self, path):
        with safetensors.safe_open(path, framework="numpy") as file:
            self.metadata = file.metadata()
            self.tensors = {
                spec["name"]: self._dense(file, spec) for spec in json.loads(self.metadata["layout"])
            }
        self.data = json.loads(self.metadata["data_spec"])

    def __getitem__(self, name):
        return self.tensors[name].astype(numpy.float64)

    @staticmethod
    def _dense(file, spec):
        name, shape = spec["name"], spec["shape"]
        if not spec["sparse"]:
            return file.get_tensor(name)
        offsets = file.get_tensor(name + ".row_offsets")
        dense = numpy.zeros((shape[0], int(numpy.prod(shape[1:]))), numpy.float32)
        rows = numpy.repeat(numpy.arange(shape[0]), numpy.diff(offsets))
        dense[rows, file.get_tensor(name + ".columns")] = file.get_tensor(name + ".values")
        return dense.reshape(shape)


def softmax(logits):
    exponentials = numpy.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def rms_norm(values, weight, epsilon):
    return values / numpy.sqrt((values**2).mean(axis=-1, keepdims=True) + epsilon) * weight


def rotate(values, theta):
    """Rotary positions of [heads, positions, size], the halves of a head being pairs."""
    _, positions, size = values.shape
    frequencies = theta ** (-numpy.arange(0, size, 2) / size)
    angles = numpy.arange(positions)[:, None] * frequencies
    first, second = values[..., : size // 2], values[..., size // 2 :]
    cosine, sine = numpy.cos(angles), numpy.sin(angles)
    return numpy.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def next_token(model, tokens, heads, blocks, epsilon=1e-5, theta=10000.0):
    """The probabilities of the token after these, of a model of the LLaMA family."""
    hidden = model["model.embed_tokens.weight"][tokens]
    for block in range(blocks):
        weight = lambda name: model[f"model.layers.{block}.{name}.weight"]
        normed = rms_norm(hidden, weight("input_layernorm"), epsilon)
        split = lambda values: values.reshape(len(tokens), heads, -1).transpose(1, 0, 2)
        query, key, value = (split(normed @ weight(f"self_attn.{name}_proj").T) for name in "qkv")
        query, key = rotate(query, theta), rotate(key, theta)
        scores = query @ key.transpose(0, 2, 1) / numpy.sqrt(query.shape[-1])
        scores[:, numpy.triu(numpy.ones((len(tokens), len(tokens)), bool), 1)] = -numpy.inf
        attended = (softmax(scores) @ value).transpose(1, 0, 2).reshape(len(tokens), -1)
        hidden = hidden + attended @ weight("self_attn.o_proj").T
        normed = rms_norm(hidden, weight("post_attention_layernorm"), epsilon)
        gate = normed @ weight("mlp.gate_proj").T
        hidden = hidden + (gate / (1 + numpy.exp(-gate)) * (normed @ weight("mlp.up_proj").T)) @ weight("mlp.down_proj").T
    last = rms_norm(hidden[-1], model["model.norm.weight"], epsilon)
    return softmax(last @ model["model.embed_tokens.weight"].T)


def convolve(image, weight, bias, padding):
    """[channels, height, width] by [outputs, channels, k, k]."""
    padded = numpy.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    windows = numpy.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(1, 2))
    return numpy.einsum("chwij,ocij->ohw", windows, weight) + bias[:, None, None]


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


class PredictTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.root = cls.folder / "data"
        cls.root.mkdir()
        (cls.folder / "stubs").mkdir()
        cls.api = generate_stubs(cls.folder / "stubs")
        cls._write_flowers()
        datasets.write_interactions(cls.root / "likes", users=30, items=24, tastes=3)
        datasets.write_text(cls.root / "counting")
        cls._write_images()
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=1, data_root=cls.root))

    @classmethod
    def _write_flowers(cls):
        rng = numpy.random.default_rng(1)
        lines = ["size,colour,kind,weight"]
        for row in range(ROWS):
            kind = row % 2
            weight = "" if row % 20 == 7 else f"{rng.normal(3 + kind, 1):.2f}"
            colour = COLOURS[rng.integers(3)]
            lines.append(f"{rng.normal(2 * kind, 1):.2f},{colour},{['lily', 'rose'][kind]},{weight}")
        (cls.root / "flowers").mkdir()
        (cls.root / "flowers/train.csv").write_text("\n".join(lines) + "\n")

    @classmethod
    def _write_images(cls):
        """Grey images of 8 × 8, as PNG files in folders of two classes."""
        rng = numpy.random.default_rng(2)
        for kind in ("dark", "light"):
            folder = cls.root / "shades" / kind
            folder.mkdir(parents=True)
            for number in range(40):
                pixels = rng.integers(0, 120, (8, 8)) + (130 if kind == "light" else 0)
                (folder / f"{number}.png").write_bytes(datasets.png(bytes(int(p) for p in pixels.ravel())))

    def train(self, job):
        """The checkpoint's name, its file, and the model in it."""
        base = {
            "training": {"batch_size": 8, "optimizer": {"learning_rate": 0.1}},
            "federation": {"rounds": 4},
            "method": {"name": "set", "parameters": {"density": 0.5}},
        }
        job["data"].setdefault("partition", {"shards": 2})
        done = self.cluster.run(base | job)
        name = done["latest_checkpoint"]
        file = self.folder / (name.replace("/", "-") + ".safetensors")
        self.cluster.cli("checkpoint", "get", name, "-O", file).ok()
        return name, file, Model(file)

    def ask(self, checkpoint, examples, **more):
        """PredictService from stubs alone."""
        channel = self.enterContext(contextlib.closing(grpc.insecure_channel(self.cluster.address)))
        stub = self.api["predict_grpc"].PredictServiceStub(channel)
        predict = self.api["predict"]
        request = predict.PredictRequest(checkpoint=checkpoint, examples=predict.Examples(**examples), **more)
        return stub.Predict(request, timeout=cluster.DEADLINE_S)

    def example(self, **fields):
        return self.api["predict"].Example(**fields)

    def test_tables(self):
        name, file, model = self.train({
            "model": {"layers": [{"linear": {"units": 12, "activation": "relu"}}, {"linear": {}}]},
            "data": {"dataset": "flowers", "label_column": "kind", "words": "one_hot", "missing": "mean",
                     "normalization": "federated"},
        })
        new = self.folder / "new.csv"
        new.write_text("weight,note,size,colour\n3.5,x,0.5,red\n,y,1.5,blue\n")
        agreement = model.data["agreement"]
        mean = agreement["columns"][2]["mean"]
        self.assertEqual(COLOURS, agreement["columns"][1]["words"])
        inputs = numpy.array([[0.5, 0, 0, 1, 3.5], [1.5, 1, 0, 0, mean]])
        inputs = (inputs - model.data["channelMean"]) / model.data["channelStd"]
        hidden = numpy.maximum(inputs @ model["layers.0.weight"].T + model["layers.0.bias"], 0)
        expected = softmax(hidden @ model["layers.1.weight"].T + model["layers.1.bias"])

        without_cluster = cluster.espalier("predict", file, new).ok().out
        self.assertEqual(without_cluster, self.cluster.cli("predict", name, new).ok().out)
        rows = rows_of(without_cluster)
        found = numpy.array([[float(row["lily"]), float(row["rose"])] for row in rows])
        numpy.testing.assert_allclose(found, expected, atol=1e-5)
        self.assertEqual([["lily", "rose"][i] for i in expected.argmax(axis=1)], [row["prediction"] for row in rows])

        as_json = json.loads(cluster.espalier("predict", file, new, "-o", "json").ok().out)
        self.assertEqual(["lily", "rose"], as_json["outputs"])
        numpy.testing.assert_array_equal(
            numpy.array([p["values"] for p in as_json["predictions"]], numpy.float32), found.astype(numpy.float32)
        )
        array = self.folder / "new.npy"
        cluster.espalier("predict", file, new, "-O", array).ok()
        numpy.testing.assert_array_equal(numpy.load(array), found.astype(numpy.float32))

        answer = self.ask(name, {
            "columns": ["colour", "size", "weight"],
            "examples": [self.example(cells=["red", "0.5", "3.5"]), self.example(cells=["blue", "1.5", ""])],
        })
        self.assertEqual(["lily", "rose"], list(answer.outputs))
        numpy.testing.assert_array_equal(numpy.array([p.values for p in answer.predictions], numpy.float32), found.astype(numpy.float32))
        self.assertEqual([row["prediction"] for row in rows], [p.best for p in answer.predictions])
        with self.assertRaises(grpc.RpcError) as failure:
            self.ask(name, {"columns": ["colour", "size"], "examples": [self.example(cells=["red", "1"])]})
        self.assertEqual(grpc.StatusCode.INVALID_ARGUMENT, failure.exception.code())
        self.assertIn("none called 'weight'", failure.exception.details())

    def test_mistakes_in_a_file_are_named(self):
        name, file, _ = self.train({
            "model": {"layers": [{"linear": {}}]},
            "data": {"dataset": "flowers", "label_column": "kind", "words": "one_hot", "missing": "mean"},
        })
        for text, says in (
            ("size,colour,weight\n1,pink,2\n", "line 2, column 2 ('colour'): expected a word"),
            ("size,weight\n1,2\n", "none called 'colour'"),
            ("size,colour,weight\n1,red\n", "line 2: expected 3 cells"),
            ("", "expected one example a line, found none"),
        ):
            with self.subTest(says):
                path = self.folder / "bad.csv"
                path.write_text(text)
                result = cluster.espalier("predict", file, path)
                self.assertNotEqual(0, result.code)
                self.assertIn(says, result.err)
        missing = cluster.espalier("predict", file, self.folder / "none.csv")
        self.assertIn("No such file", missing.err)
        unknown = self.cluster.cli("predict", "nothing-1", self.folder / "bad.csv")
        self.assertEqual(3, unknown.code)

    def test_images(self):
        name, file, model = self.train({
            "model": {"layers": [{"conv2d": {"channels": 4, "activation": "relu"}}, {"linear": {}}]},
            "data": {"dataset": "shades", "scale": 255, "test_fraction": 0.2},
        })
        folder = self.root / "shades/light"
        rows = rows_of(cluster.espalier("predict", file, folder).ok().out)
        self.assertEqual(sorted(path.name for path in folder.iterdir()), [row["file"] for row in rows])
        self.assertGreater(sum(row["prediction"] == "light" for row in rows), 35)
        # What a PNG file holds is known from the prediction that gives its numbers.
        rng = numpy.random.default_rng(3)
        pixels = rng.integers(0, 256, (3, 8, 8))
        images = numpy.array(pixels / 255)
        expected = []
        for image in images:
            maps = convolve(image[None], model["layers.0.weight"], model["layers.0.bias"], 1)
            logits = model["layers.1.weight"] @ numpy.maximum(maps, 0).ravel() + model["layers.1.bias"]
            expected.append(softmax(logits))
        array = self.folder / "images.npy"
        numpy.save(array, pixels.astype(numpy.uint8).reshape(3, 64))
        found = rows_of(cluster.espalier("predict", file, array).ok().out)
        numpy.testing.assert_allclose(
            [[float(row["dark"]), float(row["light"])] for row in found], expected, atol=1e-4
        )
        png = datasets.png(bytes(int(p) for p in pixels[0].ravel()))
        answer = self.ask(name, {"examples": [self.example(image=png)]}, top=1)
        self.assertEqual([int(numpy.argmax(expected[0]))], list(answer.predictions[0].places))
        numpy.testing.assert_allclose(answer.predictions[0].values, [max(expected[0])], atol=1e-4)

    def test_next_tokens(self):
        name, file, model = self.train({
            "model": {"transformer": {"vocabulary": 128, "hidden": 16, "blocks": 2, "heads": 2}},
            "data": {"dataset": "counting", "text": {"context": 24}},
            "training": {"batch_size": 8, "local_steps": 10, "optimizer": {"kind": "adam", "learning_rate": 0.01}},
        })
        text = "0123"
        expected = next_token(model, [ord(c) for c in text], heads=2, blocks=2)
        prompts = self.folder / "prompts.txt"
        prompts.write_text(text + "\n")
        array = self.folder / "tokens.npy"
        cluster.espalier("predict", file, prompts, "-O", array).ok()
        numpy.testing.assert_allclose(numpy.load(array)[0], expected, atol=1e-4)
        rows = rows_of(cluster.espalier("predict", file, prompts).ok().out)
        self.assertEqual(5, len(rows))
        self.assertEqual(chr(int(numpy.argmax(expected))), rows[0]["text"])
        answer = self.ask(name, {"examples": [self.example(tokens=[ord(c) for c in text])]})
        numpy.testing.assert_allclose(answer.predictions[0].values, expected, atol=1e-4)

    def test_pairs_of_users_and_items(self):
        name, file, model = self.train({
            "model": {"recommender": {"lightgcn": {"dimensions": 8, "layers": 2}}},
            "data": {"dataset": "likes"},
            "method": {"name": "dense"},
        })
        pairs = self.folder / "pairs.csv"
        shown = self.cluster.cli("recommend", name, "--user", "1", "-k", 3, "-o", "json")
        if shown.code != 0:
            self.fail(shown.err)
        items = shown.json["items"]
        pairs.write_text("item,user\n" + "".join(f"{item['item']},1\n" for item in items))
        rows = rows_of(cluster.espalier("predict", file, pairs, "--data", self.root / "likes").ok().out)
        self.assertEqual([("1", item["item"]) for item in items], [(row["user"], row["item"]) for row in rows])
        # The items for a user are ranked by these scores.
        numpy.testing.assert_allclose([float(row["score"]) for row in rows], [i["score"] for i in items], rtol=1e-5)
        answer = self.ask(name, {"examples": [self.example(user="1", item=i["item"]) for i in items]})
        numpy.testing.assert_allclose([p.values[0] for p in answer.predictions], [i["score"] for i in items], rtol=1e-5)
        needs_data = cluster.espalier("predict", file, pairs)
        self.assertIn("expected --data", needs_data.err)


if __name__ == "__main__":
    unittest.main()
