"""The Node that the dashboard's pages are built with, and npm packages of programs in tests."""

import os
import pathlib
import shutil
import subprocess

BIN = pathlib.Path(os.environ["ESPALIER_BIN_DIR"])


def node():
    """Node as the build of the pages has it."""
    path = BIN.parent / "client/dashboard/web-tools/node/bin/node"
    if not path.exists():
        raise AssertionError(f"no Node at {path}: build the dashboard's pages first")
    return path


def packages(source, name):
    """A folder of the build with the programs of `source`, and with the packages that they name; it stays until those change."""
    folder = BIN.parent / name
    lock = (source / "package-lock.json").read_text()
    mark = folder / "complete"
    if not mark.exists() or mark.read_text() != lock:
        building = folder.with_suffix(f".{os.getpid()}")
        shutil.copytree(source, building)
        npm = node().parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
        subprocess.run(
            [node(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=building, env=os.environ | {"PATH": f"{node().parent}:{os.environ['PATH']}"}, check=True, timeout=300,
        )  # fmt: skip
        (building / "complete").write_text(lock)
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    for program in source.glob("*.mjs"):
        shutil.copy(program, folder)
    return folder
