"""Small data sets in the formats that workers read."""

import csv
import fractions
import gzip
import hashlib
import json
import random
import struct
import zlib

CLASSES = 10
SIDE = 28
DIGIT_SIDE = 8


def _idx(code_dims, *dims):
    return struct.pack(f">HBB{len(dims)}I", 0, 8, code_dims, *dims)


def _write(path, data):
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(data)


def write_idx(folder, train=4000, test=1000, seed=1):
    """Four files named as MNIST's: noise with a bright square whose place tells the class."""
    folder.mkdir(parents=True)
    source = random.Random(seed)
    for part, count in (("train", train), ("t10k", test)):
        labels = bytes(i % CLASSES for i in range(count))
        images = bytearray(source.randbytes(count * SIDE * SIDE // 8) * 8)
        for i, label in enumerate(labels):
            for row in range(5):
                start = (i * SIDE + row + 5 * (label % 5) + 1) * SIDE + 12 * (label // 5)
                images[start : start + 12] = b"\xff" * 12
        _write(folder / f"{part}-images-idx3-ubyte.gz", _idx(3, count, SIDE, SIDE) + images)
        _write(folder / f"{part}-labels-idx1-ubyte.gz", _idx(1, count) + labels)


def write_cifar10(folder, train=4000, test=1000, seed=1):
    """Files named as CIFAR-10's: noise whose mean in the three colours tells the class."""
    folder.mkdir(parents=True)
    source = random.Random(seed)
    pixels = 32 * 32
    parts = [(f"data_batch_{i}", train // 5) for i in range(1, 6)] + [("test_batch", test)]
    for name, count in parts:
        records = bytearray()
        for i in range(count):
            label = i % CLASSES
            records.append(label)
            for colour in range(3):
                level = 25 * (label * (colour + 1) % CLASSES)
                block = bytes(level + value % 25 for value in source.randbytes(64))
                records += block * (pixels // len(block))
        (folder / f"{name}.bin").write_bytes(records)


def write_csv(folder, rows=200, features=4, classes=3, seed=1, extra=()):
    """train.csv and test.csv: the label, last, says which of the first features is largest."""
    folder.mkdir(parents=True)
    source = random.Random(seed)
    for part, count in (("train", rows), ("test", rows // 4)):
        lines = []
        for _ in range(count):
            values = [round(source.random(), 3) for _ in range(features)]
            lines.append(",".join(map(str, values + [values.index(max(values[:classes]))])))
        if part == "train":
            lines += extra
        (folder / f"{part}.csv").write_text("\n".join(lines) + "\n")


def csv_job(rounds=3, dataset="mine", features=4, classes=3, **sections):
    """A job on what write_csv writes; `sections` replace or add to its top-level fields."""
    job = {
        "model": {
            "input_features": features,
            "layers": [
                {"linear": {"units": 16, "activation": "relu"}},
                {"linear": {"units": classes}},
            ],
        },
        "data": {"dataset": dataset, "partition": {"kind": "iid", "shards": 3}},
        "method": {"name": "set", "parameters": {"density": 0.5}},
        "training": {
            "batch_size": 10,
            "local_epochs": 2,
            "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        },
        "federation": {"rounds": rounds},
        "evaluation": {"central": True},
    }
    return job | sections


def write_interactions(folder, users, items, tastes, seed=1):
    """train.txt in LightGCN's format: users like mostly items i with i % tastes == user % tastes.

    Every item is liked by somebody. Returns the set of each user's items.
    """
    folder.mkdir(parents=True)
    source = random.Random(seed)
    liked = []
    for user in range(users):
        own = [item for item in range(items) if item % tastes == user % tastes]
        chosen = set(source.sample(own, max(2, len(own) * 4 // 5)))
        chosen.add(source.randrange(items))
        chosen.add(user % items)
        liked.append(chosen)
    for item in range(items):
        liked[item % users].add(item)
    lines = [" ".join(map(str, [user, *sorted(chosen)])) for user, chosen in enumerate(liked)]
    (folder / "train.txt").write_text("\n".join(lines) + "\n")
    return liked


def write_text(folder, numbers=1500):
    """train.txt and test.txt: numbers in order, one a line, whose digits a language model can learn."""
    folder.mkdir(parents=True)
    for part, first, count in (("train", 10_000, numbers), ("test", 10_000 + numbers, numbers // 5)):
        (folder / f"{part}.txt").write_text("".join(f"{n}\n" for n in range(first, first + count)))


def write_tokenizer_json(folder, merges):
    """A tokenizer.json like GPT-2's: the bytes, and the pairs in `merges`, of printable characters."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    vocabulary = {chr(byte): byte for byte in printable}
    vocabulary |= {chr(0x100 + i): byte for i, byte in enumerate(others)}
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    file = {
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [list(pair) for pair in merges]},
    }
    (folder / "tokenizer.json").write_text(json.dumps(file))


def text_job(rounds=3, dataset="counting", **sections):
    """A small transformer on what write_text writes; `sections` replace or add to its top-level fields."""
    job = {
        "model": {"transformer": {"vocabulary": 64, "hidden": 32, "blocks": 2, "heads": 2}},
        "data": {
            "dataset": dataset,
            "text": {"context": 24},
            "partition": {"kind": "iid", "shards": 2},
        },
        "method": {"name": "set", "parameters": {"density": 0.5}},
        "training": {
            "batch_size": 16,
            "local_steps": 20,
            "optimizer": {"kind": "adam", "learning_rate": 0.005, "across_rounds": "average"},
        },
        "federation": {"rounds": rounds},
        "evaluation": {"central": True},
    }
    return job | sections


def write_movielens(folder, users, items, seed=1):
    """u.data in MovieLens' format: every user rates a few items, and every item is rated."""
    folder.mkdir(parents=True)
    source = random.Random(seed)
    pairs = {(item % users, item) for item in range(items)}
    pairs |= {(user, source.randrange(items)) for user in range(users) for _ in range(8)}
    lines = [f"{user + 1}\t{item + 1}\t4\t{i}" for i, (user, item) in enumerate(sorted(pairs))]
    (folder / "u.data").write_text("\n".join(lines) + "\n")


def png(values):
    """A grey image of DIGIT_SIDE × DIGIT_SIDE bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", DIGIT_SIDE, DIGIT_SIDE, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + values[i : i + DIGIT_SIDE] for i in range(0, len(values), DIGIT_SIDE))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def _in_order(files):
    """The order of the reader: {class: {name: example}} as a list of (class, example)."""
    places = []
    for label in sorted(files):
        names = sorted(files[label], key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        for i, name in enumerate(names):
            place = fractions.Fraction(2 * i + 1, 2 * len(names))
            places.append((place, label, files[label][name]))
    return [(label, values) for _, label, values in sorted(places, key=lambda item: item[:2])]


def write_digits(root, digits):
    """The digits as images in folders, and as CSV in the same order."""
    files = {}
    with gzip.open(digits, "rt") as lines:
        for i, row in enumerate(csv.reader(lines)):
            *values, label = map(int, row)
            files.setdefault(label, {})[f"{i}.png"] = bytes(values)
    for label, images in files.items():
        folder = root / "images" / str(label)
        folder.mkdir(parents=True)
        for name, values in images.items():
            (folder / name).write_bytes(png(values))
    (root / "table").mkdir()
    with open(root / "table/digits.csv", "w") as out:
        for label, values in _in_order(files):
            out.write(",".join(map(str, values)) + f",{label}\n")


def write_files(root, name, files):
    """Writes a folder, for instance a data set, with files {path in it: text or bytes}; returns the folder."""
    folder = root / name
    folder.mkdir(parents=True)
    for file, content in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
