#!/usr/bin/env python3
"""Runs clang-tidy on every C++ file of the project that has changed since it was last found clean.

    tidy.py BUILD_DIR [FILE ...]     FILE: check only these

A file counts as unchanged while its own bytes, those of all project headers it reaches, the parts of the protocol it
reaches (but for their comments), its compile command, the configuration and the version of clang-tidy are the same. The
marks of clean files live in build/lint-cache.
"""
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time

from files import ROOT, project_files

CACHE = os.path.join(ROOT, "build", "lint-cache")
TIDY = "clang-tidy-14"
_INCLUDE = re.compile(rb'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
_IMPORT = re.compile(rb'^\s*import\s*"([^"]+)"', re.MULTILINE)
_PRECOMPILED = re.compile(r" -Winvalid-pch| -fpch-preprocess| -include \S*/cmake_pch\.hxx")
_COMMENT = re.compile(rb"\s*//[^\n]*")
# What GCC knows and clang does not must not fail the check.
_EXTRA = ["--extra-arg=-Wno-unknown-warning-option", "--extra-arg=-Wno-ignored-optimization-argument"]


def read(path):
    with open(os.path.join(ROOT, path), "rb") as stream:
        return stream.read()


class Fingerprints:
    """Hashes of files together with everything of the project that they include."""

    def __init__(self):
        self._includes = {}
        self._digests = {}
        configs = [path for path in project_files() if os.path.basename(path) == ".clang-tidy"]
        version = subprocess.run([TIDY, "--version"], check=True, capture_output=True).stdout
        self._common = hashlib.sha256(version + b"".join(map(read, configs))).digest()

    def _scan(self, path):
        if path in self._digests:
            return
        data = read(path)
        if path.endswith(".proto"):
            data = _COMMENT.sub(b"", data)
        self._digests[path] = hashlib.sha256(data).digest()
        names = [name.decode("utf-8", "replace") for name in _INCLUDE.findall(data) + _IMPORT.findall(data)]
        names += [os.path.join("proto", re.sub(r"(\.grpc)?\.pb\.h$", ".proto", name)) for name in names]
        self._includes[path] = [name for name in names if os.path.isfile(os.path.join(ROOT, name))]

    def of(self, path, command):
        reached, waiting = set(), [path]
        while waiting:
            current = waiting.pop()
            if current not in reached:
                reached.add(current)
                self._scan(current)
                waiting += self._includes[current]
        total = hashlib.sha256(self._common + command.encode())
        for name in sorted(reached):
            total.update(name.encode() + b"\0" + self._digests[name])
        return total.hexdigest()


def compile_commands(build_dir):
    """Returns {relative path: command} of the project's own files, and writes them to a database of their own.

    The precompiled headers are left out: GCC's are none to clang, and a source has to include what it uses.
    """
    with open(os.path.join(build_dir, "compile_commands.json"), encoding="utf-8") as stream:
        entries = json.load(stream)
    commands, kept, own = {}, [], set(project_files())
    for entry in entries:
        path = os.path.relpath(os.path.join(entry["directory"], entry["file"]), ROOT)
        if path in own:
            entry["command"] = _PRECOMPILED.sub("", entry["command"])
            kept.append(entry)
            commands[path] = entry["command"].replace(ROOT, "")
    database = os.path.join(CACHE, "commands")
    os.makedirs(database, exist_ok=True)
    with open(os.path.join(database, "compile_commands.json"), "w", encoding="utf-8") as stream:
        json.dump(kept, stream)
    return commands, database


def generate_headers(build_dir):
    """Makes the C++ headers of the protocol, without compiling anything."""
    targets = subprocess.run(["ninja", "-C", build_dir, "-t", "targets", "all"], check=True,
                             capture_output=True, text=True).stdout
    headers = re.findall(r"^(generated/\S+\.pb\.h):", targets, re.MULTILINE)
    if headers:
        subprocess.run(["ninja", "-C", build_dir, *headers], check=True, stdout=subprocess.DEVNULL)


def check(database, path):
    """Returns clang-tidy's findings for one file, empty when it is clean."""
    result = subprocess.run([TIDY, "--quiet", "-p", database, *_EXTRA, path], cwd=ROOT, check=False,
                            capture_output=True, text=True)
    if result.returncode == 0:
        return ""
    return result.stdout or result.stderr


def main():
    build_dir = os.path.abspath(sys.argv[1])
    generate_headers(build_dir)
    commands, database = compile_commands(build_dir)
    if not commands:
        print(f"tidy: {build_dir}/compile_commands.json names no file of this project")
        return 1
    chosen = [os.path.relpath(path, ROOT) for path in sys.argv[2:]] or sorted(commands)
    unknown = [path for path in chosen if path not in commands]
    if unknown:
        print(f"tidy: not part of the build: {', '.join(unknown)}")
        return 1
    os.makedirs(CACHE, exist_ok=True)
    fingerprints = Fingerprints()
    marks = {path: os.path.join(CACHE, fingerprints.of(path, commands[path])) for path in chosen}
    changed = [path for path in chosen if not os.path.exists(marks[path])]
    print(f"tidy: {len(changed)} of {len(chosen)} files to check", flush=True)
    dirty, started = 0, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        runs = {pool.submit(check, database, path): path for path in changed}
        for number, run in enumerate(concurrent.futures.as_completed(runs), 1):
            path, findings = runs[run], run.result()
            if findings:
                dirty += 1
                print(f"tidy: {path}\n{findings}", flush=True)
            else:
                open(marks[path], "w", encoding="utf-8").close()
            if number % 20 == 0:
                print(f"tidy: {number}/{len(changed)} after {time.monotonic() - started:.0f} s", flush=True)
    return 1 if dirty else 0


if __name__ == "__main__":
    sys.exit(main())
