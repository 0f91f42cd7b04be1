#!/usr/bin/env python3
"""Breaks things for a while and writes a report.

    tests/chaos/run.py [--seeds 1000] [--kills 200] [--take-overs 100] [--calls 1] [--jobs 2] [--report build/chaos/report.md]

Seeds: so many of each kind of job and disturbance in the simulation, in which coordinators are destroyed between any two functions of
their executors, and jobs are paused, by drawn numbers. Kills: so many of real coordinators with kill -9, and as many of real workers,
over five kinds of jobs. Take-overs: so many coordinators killed while another one stands by. Calls: a coordinator killed at every system
call that writes. Whatever is disturbed must end with the model and the events of a run that nobody disturbed. Exits with 1 when
anything did not.
"""

import argparse
import concurrent.futures
import datetime
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIMULATION = ROOT / "build/release/bin/coordinator_sim_test"
SEEDS_OF_A_PART = 25
KINDS_OF_KILLS = 5  # of jobs, in kills_test.py
KINDS_OF_TAKE_OVERS = 4  # likewise in standby_test.py


def simulate(first, seeds):
    """One part of the seeds; its output, and whether all is well."""
    environment = os.environ | {"ESPALIER_FIRST_SEED": str(first), "ESPALIER_SEEDS": str(seeds)}
    done = subprocess.run(
        [SIMULATION, "--gtest_filter=*DurableSimTest*"], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr, done.returncode == 0


def simulations(seeds, jobs):
    begin, played, lives, pauses, failures = time.monotonic(), 0, 0, 0, []
    parts = range(1, seeds + 1, SEEDS_OF_A_PART)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda first: simulate(first, min(SEEDS_OF_A_PART, seeds + 1 - first)), parts)
        for first, (output, well) in zip(parts, results):
            for line in re.finditer(r"^\w+: (\d+) seeds, (\d+) coordinators, (\d+) pauses$", output, re.M):
                played, lives, pauses = played + int(line[1]), lives + int(line[2]), pauses + int(line[3])
            if not well:
                failures += failed(output, first)
            print(f"seeds {first} …: {'as expected' if well else 'FAILED'}", flush=True)
    seconds = time.monotonic() - begin
    text = (
        f"{played} simulated jobs, {lives} coordinators, {pauses} pauses in {seconds:.0f} s, "
        f"{played / seconds:.1f} jobs/s: {len(failures)} failed"
    )
    if played == 0 or played % seeds:
        failures.append(f"expected a multiple of {seeds} jobs, found {played}")
    return [text, *failures], not failures


def failed(output, first):
    """How to play again what failed."""
    seeds = sorted(set(re.findall(r"seed (\d+)$", output, re.M)), key=int)
    command = "ESPALIER_FIRST_SEED={} ESPALIER_SEEDS=1 {} --gtest_filter='*DurableSimTest*'"
    relative = SIMULATION.relative_to(ROOT)
    return [command.format(seed, relative) for seed in seeds] or [f"seeds from {first} on ended the program:\n{output[-2000:]}"]


def end_to_end(test, variables, marks, lines_wanted):
    """Runs a test of real programs for long; the lines of its report, and whether all is well."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests/e2e/durable" / test],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = [line.lstrip(".") for line in done.stdout.splitlines() if marks in line]
    well = done.returncode == 0 and len(lines) >= lines_wanted
    if not well:
        lines.append(done.stdout[-4000:])
    return lines, well


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--take-overs", type=int, default=100)
    parser.add_argument("--calls", type=int, choices=(0, 1), default=1, help="1: a kill at every system call that writes")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--report", type=pathlib.Path, default=ROOT / "build/chaos/report.md")
    options = parser.parse_args()
    parts = {}
    if options.seeds:
        parts["Simulation"] = simulations(options.seeds, options.jobs)
    if options.kills:
        variables = {"ESPALIER_KILLS": str(options.kills)}
        parts["Programs that are killed"] = end_to_end("kills_test.py", variables, "killed, coordinator back", KINDS_OF_KILLS)
    if options.take_overs:
        variables = {"ESPALIER_TAKE_OVERS": str(options.take_overs)}
        parts["A coordinator that takes over"] = end_to_end("standby_test.py", variables, "the other worked after", KINDS_OF_TAKE_OVERS)
    if options.calls:
        parts["A kill at every system call"] = end_to_end("syscalls_test.py", {"ESPALIER_EVERY_CALL": "1"}, "as undisturbed", 1)
    today = datetime.date.today().isoformat()
    lines = [f"# Chaos, {today}, {os.cpu_count()} cores, {platform.machine()}"]
    for title, (report, _) in parts.items():
        lines += ["", f"## {title}", ""] + [f"- {line}" for line in report]
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text("\n".join(lines) + "\n")
    print(options.report.read_text())
    sys.exit(0 if all(well for _, well in parts.values()) else 1)


if __name__ == "__main__":
    main()
