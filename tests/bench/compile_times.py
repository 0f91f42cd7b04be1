#!/usr/bin/env python3
"""Measures what the three programs cost to compile: the processor time of every object, without ccache.

Usage: tests/bench/compile_times.py [--build DIR] [--jobs N] [--out FILE] [--match TEXT] [TARGET...]

Each compile command that the targets need (by default the coordinator, the worker and the CLI) runs once, writing its
object to a scratch folder, so that the build tree stays as it is. The build tree has to be complete: generated sources
and precompiled headers must exist. The time is user plus system time of the compiler's processes, so that other work on
the machine hardly disturbs it. The result is a table on standard output, most expensive first, and with --out a
tab-separated file of seconds and object.
"""
import argparse
import os
import queue
import shlex
import subprocess
import sys
import tempfile
import threading

PROGRAMS = ["bin/espalier-coordinator", "bin/espalier-worker", "bin/espalier"]


def compile_commands(build, targets):
    """Yields (object, arguments) of every compile command that the targets need, precompiled headers included."""
    text = subprocess.run(["ninja", "-C", build, "-t", "commands", *targets], check=True, capture_output=True,
                          text=True).stdout
    for line in text.splitlines():
        if " -c " not in line or " -o " not in line:
            continue
        words = shlex.split(line)
        compiler = next(i for i, word in enumerate(words)
                        if os.path.basename(word).startswith(("c++", "g++", "clang++")))
        arguments = words[compiler:]
        if "&&" not in arguments:
            yield arguments[arguments.index("-o") + 1], arguments


def measure(build, name, arguments, scratch):
    """Runs one command with its outputs in the scratch folder and returns its processor seconds."""
    own = list(arguments)
    target = os.path.join(scratch, name.replace("/", "+"))
    own[own.index("-o") + 1] = target
    for flag in ("-MF", "-MT"):
        if flag in own:
            own[own.index(flag) + 1] = target + ".d"
    process = subprocess.Popen(own, cwd=build, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{name} does not compile: {message.decode(errors='replace')}")
    os.remove(target)
    return usage.ru_utime + usage.ru_stime


def measure_all(build, commands, jobs):
    """Returns [(seconds, object)], with `jobs` compilers at a time."""
    pending, results, failures = queue.Queue(), [], []
    for command in commands:
        pending.put(command)

    def work(scratch):
        while not failures:
            try:
                name, arguments = pending.get_nowait()
            except queue.Empty:
                return
            try:
                results.append((measure(build, name, arguments, scratch), name))
            except SystemExit as failure:
                failures.append(failure)

    with tempfile.TemporaryDirectory() as scratch:
        threads = [threading.Thread(target=work, args=(scratch,)) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return sorted(results, reverse=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release", help="build folder (default build/release)")
    parser.add_argument("--jobs", type=int, default=2, help="compilers at a time (default 2)")
    parser.add_argument("--out", help="write seconds and object of every object to this file")
    parser.add_argument("--match", default="", help="only objects whose name contains this text")
    parser.add_argument("targets", nargs="*", default=PROGRAMS, metavar="TARGET",
                        help="ninja targets (default: the three programs)")
    arguments = parser.parse_args()
    commands = [command for command in compile_commands(arguments.build, arguments.targets)
                if arguments.match in command[0]]
    results = measure_all(arguments.build, commands, arguments.jobs)
    if arguments.out:
        with open(arguments.out, "w", encoding="utf-8") as file:
            file.writelines(f"{seconds:.2f}\t{name}\n" for seconds, name in results)
    for seconds, name in results[:40]:
        print(f"{seconds:8.2f} s  {name}")
    print(f"{sum(seconds for seconds, _ in results):8.1f} s of processor time for {len(results)} objects")


if __name__ == "__main__":
    main()
