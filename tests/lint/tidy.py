#!/usr/bin/env python3
"""Runs clang-tidy on every C++ file of the project that has changed since it was last found clean.

    tidy.sh BUILD_DIR [FILE ...]               FILE: check only these
    tidy.sh BUILD_DIR --self-test [FILE ...]   on a planted fault first

A file counts as unchanged while its own bytes, those of all project headers it reaches, the parts of the protocol it
reaches (but for their comments), its compile command, the configuration and the version of clang-tidy are the same. The
marks of clean files live in build/lint-cache.
"""
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

import clang_tidy

from files import ROOT, project_files

BATCH = 8  # files: more of them define the same names more often, which costs a run of its own
CACHE = os.path.join(ROOT, "build", "lint-cache")
_INCLUDE = re.compile(rb'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
_IMPORT = re.compile(rb'^\s*import\s*"([^"]+)"', re.MULTILINE)
_PRECOMPILED = re.compile(r" -Winvalid-pch| -fpch-preprocess| -include \S*/cmake_pch\.hxx")
_COMMENT = re.compile(rb"\s*//[^\n]*")
TIDY = os.path.join(os.path.dirname(clang_tidy.__file__), "data", "bin", "clang-tidy")
# What GCC knows and clang does not must not fail the check, nor what only the standard library of GCC uses.
_EXTRA = ["--extra-arg=-Wno-unknown-warning-option", "--extra-arg=-Wno-ignored-optimization-argument",
          "--extra-arg=-Wno-deprecated-declarations"]

# A member that is read without its lock, which GCC does not see.
_PLANTED = """#include "common/base/mutex.h"

class Planted {
 public:
  int value() const { return value_; }

 private:
  espalier::base::Mutex mutex_;
  int value_ ABSL_GUARDED_BY(mutex_) = 0;
};
"""
_PLANTED_LIKE = "common/base/status.cc"  # is compiled with the same options


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
    """Returns {relative path: entry of the compilation database} of the project's own files.

    The precompiled headers are left out: GCC's are none to clang. A source has to include what it uses, to which the
    first of each batch is held here.
    """
    with open(os.path.join(build_dir, "compile_commands.json"), encoding="utf-8") as stream:
        entries = json.load(stream)
    kept, own = {}, set(project_files())
    for entry in entries:
        path = os.path.relpath(os.path.join(entry["directory"], entry["file"]), ROOT)
        if path in own:
            entry["command"] = _PRECOMPILED.sub("", entry["command"])
            kept[path] = entry
    return kept


def generate_headers(build_dir):
    """Makes the C++ headers of the protocol, without compiling anything."""
    targets = subprocess.run(["ninja", "-C", build_dir, "-t", "targets", "all"], check=True,
                             capture_output=True, text=True).stdout
    headers = re.findall(r"^(generated/\S+\.pb\.h):", targets, re.MULTILINE)
    if headers:
        subprocess.run(["ninja", "-C", build_dir, *headers], check=True, stdout=subprocess.DEVNULL)


def batches(paths, commands):
    """Returns lists of up to BATCH files that are compiled with the same options, in the order of their paths."""
    groups = {}
    for path in paths:
        options = re.sub(r" -(o|MF|MT|c) \S+", "", commands[path])
        groups.setdefault((options, config_folder(path)), []).append(path)
    return [group[i:i + BATCH] for group in groups.values() for i in range(0, len(group), BATCH)]


def config_folder(path):
    """Returns the nearest folder above the file that has a .clang-tidy, relative to the root."""
    folder = os.path.dirname(path)
    while folder and not os.path.exists(os.path.join(ROOT, folder, ".clang-tidy")):
        folder = os.path.dirname(folder)
    return folder


class Checker:
    """Runs clang-tidy. Its calls may run at the same time."""

    def __init__(self, entries):
        self._entries = entries  # {relative path: entry of the compilation database}
        self._databases = os.path.join(CACHE, "batches")  # one run at a time
        shutil.rmtree(self._databases, ignore_errors=True)
        gcc = subprocess.run(["g++", "-print-file-name=include"], check=True, capture_output=True, text=True)
        # omp.h is GCC's: clang finds it last.
        self._extra = [*_EXTRA, f"--extra-arg=-idirafter{gcc.stdout.strip()}"]

    def findings(self, paths):
        """Returns {path: findings} of the files that are not clean.

        Most of the time goes into the headers, which files of one batch share. Files that do not fit into one source,
        for they define the same names, and those of a batch that is not clean are told apart by halves.
        """
        text = self._run(paths)
        if not text or len(paths) == 1:
            return {paths[0]: text} if text else {}
        half = len(paths) // 2
        return {**self.findings(paths[:half]), **self.findings(paths[half:])}

    def sees_planted_fault(self):
        folder = os.path.join(self._databases, "planted", "common")
        os.makedirs(folder)
        planted, source = os.path.join(folder, "planted.h"), os.path.join(folder, "planted.cc")
        with open(planted, "w", encoding="utf-8") as stream:
            stream.write(_PLANTED)
        with open(source, "w", encoding="utf-8") as stream:
            stream.write(f'#include "{planted}"\n')
        return "thread-safety" in self._tidy(folder, _PLANTED_LIKE, source)

    def _run(self, paths):
        folder = os.path.join(self._databases, config_folder(paths[0]), hashlib.sha256(repr(paths).encode()).hexdigest())
        os.makedirs(folder)
        if config_folder(paths[0]):  # the configuration of the root is found by itself, above
            shutil.copy(os.path.join(ROOT, config_folder(paths[0]), ".clang-tidy"), folder)
        source = os.path.join(ROOT, paths[0])
        if len(paths) > 1:
            source = os.path.join(folder, "batch.cc")
            with open(source, "w", encoding="utf-8") as stream:
                for path in paths:
                    stream.write(f'#include "{path}"  // NOLINT(bugprone-suspicious-include)\n')
        return self._tidy(folder, paths[0], source)

    def _tidy(self, folder, like, source):
        """Returns what clang-tidy says of `source`, which is compiled as the file `like` is; "" when it is clean."""
        entry = dict(self._entries[like])
        entry["command"] = entry["command"].replace(entry["file"], source)
        entry["file"] = source
        with open(os.path.join(folder, "compile_commands.json"), "w", encoding="utf-8") as stream:
            json.dump([entry], stream)
        result = subprocess.run([TIDY, "--quiet", "-p", folder, *self._extra, source], cwd=ROOT, check=False,
                                capture_output=True, text=True)
        if result.returncode == 0:
            return ""
        return result.stdout or result.stderr or f"clang-tidy ended with {result.returncode} and said nothing"


def main():
    build_dir = os.path.abspath(sys.argv[1])
    generate_headers(build_dir)
    entries = compile_commands(build_dir)
    if not entries:
        print(f"tidy: {build_dir}/compile_commands.json names no file of this project")
        return 1
    commands = {path: entry["command"].replace(ROOT, "") for path, entry in entries.items()}
    arguments = [argument for argument in sys.argv[2:] if argument != "--self-test"]
    chosen = sorted({os.path.relpath(path, ROOT) for path in arguments} or commands)
    unknown = [path for path in chosen if path not in commands]
    if unknown:
        print(f"tidy: not part of the build: {', '.join(unknown)}")
        return 1
    os.makedirs(CACHE, exist_ok=True)
    fingerprints = Fingerprints()
    marks = {path: os.path.join(CACHE, fingerprints.of(path, commands[path])) for path in chosen}
    changed = [path for path in chosen if not os.path.exists(marks[path])]
    print(f"tidy: {len(changed)} of {len(chosen)} files to check", flush=True)
    checker = Checker(entries)
    if "--self-test" in sys.argv[2:] and not checker.sees_planted_fault():
        print("tidy: did not find a member that is touched without its lock")
        return 1
    dirty, done, started = 0, 0, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        runs = {pool.submit(checker.findings, batch): batch for batch in batches(changed, commands)}
        for run in concurrent.futures.as_completed(runs):
            batch, found = runs[run], run.result()
            for path in batch:
                if path in found:
                    print(f"tidy: {path}\n{found[path]}", flush=True)
                else:
                    open(marks[path], "w", encoding="utf-8").close()
            dirty += len(found)
            done += len(batch)
            print(f"tidy: {done}/{len(changed)} after {time.monotonic() - started:.0f} s", flush=True)
    return 1 if dirty else 0


if __name__ == "__main__":
    sys.exit(main())
