"""A language model is pruned on text that stays with the workers.

The model is a tiny LLaMA of random weights, the text random bytes: nothing from outside is needed.
"""

import json
import pathlib
import struct
import subprocess
import tempfile
import unittest

import cluster
import datasets

HIDDEN, INTERMEDIATE, BLOCKS, HEADS, KV_HEADS, VOCABULARY, CONTEXT = 32, 48, 2, 4, 2, 256, 32
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}
LINEARS = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN * KV_HEADS // HEADS, HIDDEN),
    "self_attn.v_proj": (HIDDEN * KV_HEADS // HEADS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE),
}


class Random:
    """A small generator of its own, so that the test is the same everywhere."""

    def __init__(self, seed):
        self.state = seed

    def bits(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return self.state >> 33

    def weight(self):
        # Sum of uniforms: near enough to a normal distribution.
        return sum(self.bits() / 2**31 - 0.5 for _ in range(4)) * 0.3


def tensors():
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    for block in range(BLOCKS):
        prefix = f"model.layers.{block}."
        yield prefix + "input_layernorm.weight", (HIDDEN,)
        yield prefix + "post_attention_layernorm.weight", (HIDDEN,)
        for name, shape in LINEARS.items():
            yield f"{prefix}{name}.weight", shape


def write_model(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    random = Random(5)
    header, data = {}, b""
    for name, shape in tensors():
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        norm = "norm" in name
        values = [1.0 if norm else random.weight() for _ in range(count)]
        packed = struct.pack(f"<{count}f", *values)
        offsets = [len(data), len(data) + len(packed)]
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": offsets}
        data += packed
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_tensors(path):
    """{name: (shape, values)} of a safetensors file."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    result = {}
    for name, info in header.items():
        begin, end = (8 + length + offset for offset in info["data_offsets"])
        result[name] = (info["shape"], struct.unpack(f"<{(end - begin) // 4}f", raw[begin:end]))
    return result


def write_text(folder):
    folder.mkdir(parents=True)
    random = Random(9)
    words = ["".join(chr(97 + random.bits() % 26) for _ in range(2 + i % 5)) for i in range(40)]
    text = " ".join(words[random.bits() % len(words)] for _ in range(900))
    (folder / "train.txt").write_text(text)


JOB = """
model: {{pretrained: tiny}}
data:
  dataset: words
  text: {{context: 32, tokenizer: bytes}}
  test_fraction: 0.25
  partition: {{kind: iid, shards: {shards}}}
method:
  name: {method}
  parameters: {{{parameters}}}
"""


# Beside tokenizer.json, which datasets.py writes.
COMPANIONS = {
    "tokenizer_config.json": '{"tokenizer_class": "PreTrainedTokenizerFast"}',
    "generation_config.json": '{"max_new_tokens": 7}',
}


class PruningTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        write_model(cls.folder / "models" / "tiny")
        tiny = cls.folder / "models" / "tiny"
        datasets.write_tokenizer_json(tiny, [])
        for name, content in COMPANIONS.items():
            (tiny / name).write_text(content)
        (tiny / "README.md").write_text("not a part of the model")
        write_text(cls.folder / "data" / "words")
        cls.cluster = cls.enterClassContext(
            cluster.Cluster(
                workers=2,
                data_root=cls.folder / "data",
                coordinator=("--models", cls.folder / "models"),
            )
        )

    def job_file(self, name, method, parameters, shards=3):
        path = self.folder / f"{name}.yaml"
        path.write_text(JOB.format(method=method, parameters=parameters, shards=shards))
        return path

    def prune(self, name, method, parameters, shards=3):
        path = self.job_file(name, method, parameters, shards)
        return self.cluster.cli(
            "job", "submit", path, "--name", name, "--wait", "-o", "json"
        ).ok().json

    def hugging_face(self, job):
        folder = self.folder / f"hf-{job['name'].split('/')[1]}"
        self.cluster.cli(
            "checkpoint", "get", job["latest_checkpoint"], "--format", "hf", "-O", folder
        ).ok()
        return folder

    def test_every_method_reports_perplexity_and_layers(self):
        for method in ("magnitude", "wanda", "sparsegpt", "dsnot"):
            with self.subTest(method):
                job = self.prune(f"all-{method}", method, "sparsity: 0.5, layer_errors: true")
                self.assertEqual(job["state"], "SUCCEEDED")
                last = job["history"][-1]
                self.assertAlmostEqual(last["density"], 0.5, delta=0.01)
                self.assertGreater(last["perplexity"], 1)
                self.assertGreater(last["dense_perplexity"], 1)
                self.assertEqual(len(job["history"]), BLOCKS)
                for summary in job["history"]:
                    self.assertEqual(len(summary["layers"]), len(LINEARS))
                    for layer in summary["layers"]:
                        self.assertGreater(layer["output_error"], 0)
                        self.assertLess(layer["output_error"], 1)

    def test_what_pruning_does_not_have_is_not_shown(self):
        name = self.prune("plain", "wanda", "sparsity: 0.5")["name"]
        job = self.cluster.cli("job", "get", name, "-o", "json").ok().json
        for summary in job["history"]:
            self.assertNotIn("train_loss", summary)
            self.assertNotIn("output_error", summary["layers"][0])
        text = self.cluster.cli("job", "get", name).ok().out
        progress = self.cluster.cli("job", "watch", name).ok().err
        for word in ("loss", "saved", "best ", "FLOPs"):
            self.assertNotIn(word, text + progress)
        last = job["history"][-1]
        self.assertIn(f"perplexity\t{last['perplexity']:.4f}\n", text)
        self.assertIn(f"perplexity {last['perplexity']:.4f}", progress)
        row = next(line for line in self.cluster.cli("job", "list").ok().out.splitlines() if name in line)
        self.assertEqual(f"{last['perplexity']:.4f}", row.split("\t")[4])

    def test_masks_do_not_depend_on_how_text_is_divided(self):
        hashes = {
            shards: self.prune(
                f"shards-{shards}", "dsnot", "sparsity: 0.6, refine: all", shards
            )["model_hash"]
            for shards in (1, 2, 4)
        }
        self.assertEqual(len(set(hashes.values())), 1, hashes)

    def test_result_is_the_model_with_zeros(self):
        folder = self.hugging_face(self.prune("hf", "dsnot", "init: wanda, pattern: '2:4'"))
        self.assertEqual(json.loads((folder / "config.json").read_text())["hidden_size"], HIDDEN)
        before = read_tensors(self.folder / "models" / "tiny" / "model.safetensors")
        after = read_tensors(folder / "model.safetensors")
        self.assertEqual(set(before), set(after))
        for name, (shape, values) in after.items():
            self.assertEqual(shape, before[name][0])
            if "_proj" not in name:
                self.assertEqual(values, before[name][1])
                continue
            for i in range(0, len(values), 4):
                self.assertEqual(sum(v != 0 for v in values[i : i + 4]), 2, name)
            kept = [(a, b) for a, b in zip(values, before[name][1]) if a != 0]
            self.assertTrue(all(a == b for a, b in kept), name)

    def test_tokenizer_goes_with_the_model(self):
        first = self.prune("with-tokenizer", "magnitude", "sparsity: 0.5")
        self.prune_again(first)
        for name in ("with-tokenizer", "pruned-again"):
            with self.subTest(name):
                folder = self.hugging_face(self.cluster.job(name))
                files = {path.name for path in folder.iterdir()}
                companions = {"tokenizer.json", *COMPANIONS}
                self.assertEqual({"config.json", "model.safetensors"} | companions, files)
                for file in companions:
                    given = self.folder / "models" / "tiny" / file
                    self.assertEqual(given.read_bytes(), (folder / file).read_bytes())
                self.assertTrue(self.said_by(folder).startswith(b"abc"))
                checkpoint = self.cluster.job(name)["latest_checkpoint"]
                self.assertEqual(self.said_by(folder), self.said_by(checkpoint))
        other = self.folder / "other-tokenizer"
        other.mkdir()
        (other / "merges.txt").write_text("x")
        folder = self.folder / "hf-other"
        self.cluster.cli(
            "checkpoint", "get", first["latest_checkpoint"], "--format", "hf", "-O", folder, "--tokenizer", other
        ).ok()
        files = {path.name for path in folder.iterdir()}
        self.assertEqual({"config.json", "model.safetensors", "merges.txt"}, files)

    def said_by(self, model):
        """What it writes; a model of random weights writes any bytes."""
        command = ("--server", self.cluster.address, "generate", model, "--prompt", "abc", "--tokens", "5")
        return subprocess.run(
            [cluster.BIN / "espalier", *map(str, command)], stdout=subprocess.PIPE, check=True, timeout=60
        ).stdout

    def prune_again(self, job):
        path = self.job_file("again", "magnitude", "sparsity: 0.6")
        path.write_text(path.read_text().replace("pretrained: tiny", f"pretrained: {job['latest_checkpoint']}"))
        self.cluster.cli("job", "submit", path, "--name", "pruned-again", "--wait").ok()

    def test_sweep_finds_the_curve(self):
        job = self.prune("sweep", "essential-sparsity", "from: 0.2, to: 0.8, step: 0.3")
        densities = [round(summary["density"], 2) for summary in job["history"]]
        self.assertEqual(densities, [0.8, 0.5, 0.2])
        self.assertTrue(all(summary["perplexity"] > 1 for summary in job["history"]))

    def test_mistakes_are_told_before_the_job_starts(self):
        cases = {
            ("wanda", "sparsity: 1.5"): "sparsity",
            ("nothing", ""): "method.name",
            ("wanda", "pattern: '3:4'"): "pattern",
        }
        for (method, parameters), expected in cases.items():
            with self.subTest(expected):
                path = self.job_file("bad", method, parameters)
                result = self.cluster.cli("job", "submit", path, "-o", "json")
                self.assertNotEqual(result.code, 0)
                self.assertIn(expected, json.dumps(result.error))
        path = self.job_file("unknown", "wanda", "")
        path.write_text(path.read_text().replace("tiny", "huge"))
        self.assertIn("found 'huge'", self.cluster.cli("job", "submit", path).err)
        path.write_text(path.read_text().replace("huge", "../tiny"))
        self.assertIn("no path", self.cluster.cli("job", "submit", path).err)


class NetworkPruningTest(unittest.TestCase):
    """A network trained here is pruned by its checkpoint's name."""

    def test_checkpoint_of_a_job_is_the_model(self):
        with cluster.Cluster(workers=2) as running:
            trained = running.run(*cluster.example("digits-dense", 3))
            path = running.folder / "prune.yaml"
            path.write_text(
                f"""
model: {{pretrained: {trained["name"]}}}
data:
  dataset: digits
  scale: 16
  test_fraction: 0.2003339
  partition: {{kind: iid, shards: 2}}
method: {{name: dsnot, parameters: {{sparsity: 0.6, init: magnitude}}}}
"""
            )
            job = running.cli("job", "submit", path, "--wait", "-o", "json").ok().json
            last = job["history"][-1]
            self.assertEqual(len(job["history"]), 3)
            self.assertAlmostEqual(last["density"], 0.4, delta=0.01)
            self.assertGreater(last["test_accuracy"], 0.5)
            self.assertGreater(last["dense_test_accuracy"], 0.5)


if __name__ == "__main__":
    unittest.main()
