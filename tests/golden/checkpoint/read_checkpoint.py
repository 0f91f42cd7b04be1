"""Reads a checkpoint with the `safetensors` package and compares it with what it should hold."""

import hashlib
import json
import pathlib
import subprocess
import sys

import numpy
import safetensors


def densified(file, spec, slot=None):
    """One tensor of the model, or what the optimizer remembers of it, as a dense array."""
    name, shape = spec["name"], spec["shape"]
    state = f"files/optimizer/{slot}/{name}"
    if not spec["sparse"]:
        return file.get_tensor(state if slot else name)
    values = file.get_tensor(state if slot else name + ".values")
    row_offsets = file.get_tensor(name + ".row_offsets")
    columns = file.get_tensor(name + ".columns")
    assert row_offsets.dtype == columns.dtype == numpy.int32
    rows = numpy.repeat(numpy.arange(shape[0]), numpy.diff(row_offsets))
    dense = numpy.zeros((shape[0], int(numpy.prod(shape[1:]))), numpy.float32)
    dense[rows, columns] = values
    return dense.reshape(shape)


def main():
    writer, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    subprocess.run([writer, str(folder)], check=True)
    expected = json.loads((folder / "expected.json").read_text())
    path = folder / "checkpoint.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected["sha256"]

    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        layout = json.loads(metadata["layout"])
        tensors = {spec["name"]: densified(file, spec) for spec in layout}
        momentum = {spec["name"]: densified(file, spec, "momentum") for spec in layout}

    assert metadata["format"] == "espalier.checkpoint"
    assert (metadata["job"], int(metadata["round"])) == ("golden", 3)
    assert (metadata["main_metric_name"], float(metadata["main_metric"])) == ("accuracy", 0.875)
    assert metadata["topology_hash"] == expected["topology_hash"]
    assert json.loads(metadata["model_spec"]) == {"inputFeatures": "9"}
    assert 0 < float(metadata["density"]) < 1
    assert json.loads(metadata["optimizer"]) == {"kind": "KIND_SGD", "momentum": 0.9}
    assert metadata["optimizer_steps"] == "12"
    for found, wanted in ((tensors, expected["tensors"]), (momentum, expected["momentum"])):
        assert found.keys() == wanted.keys()
        for name, tensor in found.items():
            want = numpy.array(wanted[name]["values"], numpy.float32)
            assert tensor.dtype == numpy.float32
            assert list(tensor.shape) == wanted[name]["shape"], name
            assert numpy.array_equal(tensor.ravel(), want), name
    print(f"{len(tensors)} tensors agree")


if __name__ == "__main__":
    main()
