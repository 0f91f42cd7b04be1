#!/usr/bin/env python3
"""Compares the model hashes of every method on every family of models with recorded ones or another commit's.

Usage: tests/golden/model_hashes/compare.py [--record | --base REV] [--build DIR]

Ends with 0 when all hashes are the same, 1 when some differ or the test program fails, 2 when there is nothing to compare with.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
RECORDED = pathlib.Path(__file__).resolve().parent / "recorded"
TEST = "method_family_test"
SECONDS = 600
SHOWN = 40


def processor():
    """Returns a name for what the bits depend on: the widest instruction set and the processor's model."""
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = set(re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE).group(1).split())
    widest = "avx512" if "avx512bw" in flags else "avx2" if "avx2" in flags else "sse"
    if "amx_tile" in flags:
        widest += "-amx"
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE).group(1)
    return widest + "-" + re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(.*?\)|@.*", "", model).lower()).strip("-")


def parse(text):
    """Returns {what was run: hash}."""
    return dict(line.rsplit("\t", 1) for line in text.splitlines() if "\t" in line)


def run(build, root):
    """Returns the hashes that the test in a build folder ends with, with the documentation and data below root."""
    program = pathlib.Path(build) / "bin" / TEST
    if not program.exists():
        sys.exit(f"expected the program {program}; build it with: cmake --build {build} --target {TEST}")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "hashes"
        environment = {**os.environ, "ESPALIER_MODEL_HASHES": str(path), "ESPALIER_SOURCE_DIR": str(root)}
        result = subprocess.run([program], env=environment, timeout=SECONDS, capture_output=True, text=True,
                                check=False)
        if result.returncode != 0 or not path.exists():
            sys.exit(f"{program} failed: {result.stdout[-500:]}")
        return parse(path.read_text(encoding="utf-8"))


def build_commit(revision):
    """Builds the test of another commit below build/model-hashes and returns its root."""
    commit = subprocess.run(["git", "rev-parse", "--short", revision + "^{commit}"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.strip()
    folder = ROOT / "build" / "model-hashes" / commit
    if not folder.exists():
        subprocess.run(["git", "worktree", "add", "--detach", folder, commit], cwd=ROOT, check=True)
    build = folder / "build" / "release"
    subprocess.run(["cmake", "--preset", "release"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", build, "--target", TEST], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def differences(before, after):
    """Yields a line for every run whose hash is not the same."""
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if old is None:
            yield f"new:     {name}"
        elif new is None:
            yield f"missing: {name}"
        else:
            yield f"differs: {name}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build" / "release", help="build folder (default build/release)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--record", action="store_true", help="replace the recorded hashes of this type of processor")
    choice.add_argument("--base", metavar="REV", help="compare with this commit instead of the recorded hashes")
    arguments = parser.parse_args()
    recorded = RECORDED / (processor() + ".tsv")
    if not arguments.record and not arguments.base and not recorded.exists():
        print(f"no hashes are recorded for {processor()}; compare with the commit that the change starts from: --base REV")
        return 2
    after = run(arguments.build, ROOT)
    if arguments.record:
        RECORDED.mkdir(exist_ok=True)
        recorded.write_text("".join(f"{name}\t{after[name]}\n" for name in sorted(after)), encoding="utf-8")
        print(f"{len(after)} hashes recorded in {recorded.relative_to(ROOT)}")
        return 0
    if arguments.base:
        root = build_commit(arguments.base)
        before = run(root / "build" / "release", root)
    else:
        before = parse(recorded.read_text(encoding="utf-8"))
    found = list(differences(before, after))
    for line in found[:SHOWN]:
        print(line)
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more")
    print(f"{len(before.keys() & after.keys())} runs compared, {len(found)} differ")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
