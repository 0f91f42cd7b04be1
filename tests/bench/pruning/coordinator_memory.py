#!/usr/bin/env python3
"""Memory of the coordinator while it prunes language models of 4 and of 16 blocks with Wanda.

    tests/bench/pruning/coordinator_memory.py

Writes two LLaMAs of random weights, 768 wide (28 MB a block), prunes each on a cluster of its own with two workers, and prints
the largest private memory (RssAnon, sampled; mapped files are not in it) of the coordinator and of a worker as a Markdown table.
What is O(one block) does not grow with the number of blocks. About two minutes on two cores.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "bench" / "accuracy"))
import run as accuracy  # noqa: E402

HIDDEN, FEED_FORWARD, HEADS, VOCABULARY = 768, 2048, 12, 256
LINEARS = {f"self_attn.{n}_proj": (HIDDEN, HIDDEN) for n in "qkvo"} | {
    "mlp.gate_proj": (FEED_FORWARD, HIDDEN), "mlp.up_proj": (FEED_FORWARD, HIDDEN),
    "mlp.down_proj": (HIDDEN, FEED_FORWARD)}


def tensors(blocks):
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    for block in range(blocks):
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"model.layers.{block}.{name}.weight", (HIDDEN,)
        for name, shape in LINEARS.items():
            yield f"model.layers.{block}.{name}.weight", shape


def write_model(folder, blocks):
    """A model in Hugging Face's layout; returns the bytes of its weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD, "num_hidden_layers": blocks, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "vocab_size": VOCABULARY, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True, "hidden_act": "silu"}))
    header, end = {}, 0
    for name, shape in tensors(blocks):
        begin, end = end, end + 4 * int(numpy.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    random = numpy.random.default_rng(1)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors(blocks):
            weights = numpy.ones(shape) if "norm" in name else 0.02 * random.standard_normal(shape)
            file.write(weights.astype("<f4").tobytes())
    return end


def private_bytes(process):
    for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


class Watch:
    """Largest private memory by program of the children of a process, sampled every 10 ms."""

    def __init__(self, parent):
        children = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        self.programs = {c: pathlib.Path(f"/proc/{c}/comm").read_text().strip() for c in children}
        self.peaks = dict.fromkeys(self.programs.values(), 0)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.sample)

    def sample(self):
        while not self.stop.is_set():
            for process, program in self.programs.items():
                self.peaks[program] = max(self.peaks[program], private_bytes(process))
            time.sleep(0.01)

    def __enter__(self):
        self.thread.start()
        return self.peaks

    def __exit__(self, *unused):
        self.stop.set()
        self.thread.join()


def prune(blocks, folder):
    size = write_model(folder / "models" / "random", blocks)
    text = folder / "data" / "bytes"
    text.mkdir(parents=True)
    (text / "train.txt").write_bytes(bytes(numpy.random.default_rng(2).integers(32, 127, 129 * 40, dtype=numpy.uint8)))
    job = folder / "job.json"
    job.write_text(json.dumps({
        "model": {"pretrained": "random"},
        "data": {"dataset": "bytes", "text": {"context": 128, "tokenizer": "bytes"}, "test_fraction": 0.2,
                 "partition": {"kind": "iid", "shards": 2}},
        "method": {"name": "wanda", "parameters": {"sparsity": 0.5}}}))
    cluster = accuracy.Cluster(2, folder / "data", folder / "cluster", ("--models", str(folder / "models")))
    with cluster as server, Watch(cluster.process.pid) as peaks:
        done = subprocess.run([accuracy.BIN, "--server", server, "job", "submit", job, "--wait", "-o", "json"],
                              stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"the job ended with exit code {done.returncode}\n{done.stdout}")
    return size, peaks


def main():
    print("| blocks | weights MB | coordinator MB | worker MB |\n| --- | --- | --- | --- |")
    for blocks in (4, 16):
        with tempfile.TemporaryDirectory() as folder:
            size, peaks = prune(blocks, pathlib.Path(folder))
        coordinator = max(v for name, v in peaks.items() if name.startswith("espalier-coord"))
        worker = max(v for name, v in peaks.items() if name.startswith("espalier-worke"))
        print(f"| {blocks} | {size / 1e6:.0f} | {coordinator / 1e6:.0f} | {worker / 1e6:.0f} |", flush=True)


if __name__ == "__main__":
    main()
