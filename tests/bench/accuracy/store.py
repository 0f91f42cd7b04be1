"""Where results of experiments are: JSON lines, one per run."""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]
OWN = ROOT / "build" / "accuracy"  # of this checkout
RECORDED = pathlib.Path(__file__).resolve().parent / "recorded"  # those behind the tables in docs


def read(experiment, recorded=True):
    """Results of an experiment, each (row, seed, protocol) once; own ones before recorded ones."""
    found = {}
    for folder in (OWN, RECORDED) if recorded else (OWN,):
        path = folder / f"{experiment}.jsonl"
        for line in path.read_text().splitlines() if path.exists() else []:
            result = json.loads(line)
            found.setdefault((result["row"], result["seed"], result.get("protocol")), result)
    return list(found.values())


def append(experiment, result):
    OWN.mkdir(parents=True, exist_ok=True)
    with (OWN / f"{experiment}.jsonl").open("a") as file:
        file.write(json.dumps(result) + "\n")


def split_row(row):
    """The method and the column of "<method> <density>[, <condition>]"; without a density the column is None."""
    match = re.fullmatch(r"(.*?) (0?\.\d+(?:, .*)?)", row)
    return match.groups() if match else (row, None)
