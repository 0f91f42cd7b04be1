#!/usr/bin/env python3
"""Breaks things for a while and writes a report.

    tests/chaos/run.py [--seeds 1000] [--kills 200] [--take-overs 100] [--calls 1] [--alerts 1] [--jobs 2]

Seeds: so many of each kind of job and disturbance in the simulation, by drawn numbers: coordinators are destroyed between any two
functions of their executors, and jobs are paused; or the links between coordinators and workers clog and are cut, while both are
killed. Kills: so many of real coordinators with kill -9, and as many of real workers, over five kinds of jobs. Take-overs: so many
coordinators killed while another one stands by. Calls: a coordinator killed at every system call that writes. Whatever is disturbed must
end with the model and the events of a run that nobody disturbed. Alerts: each fires for its fault. Exits with 1 when anything did not.
The report is build/chaos/report.md (--report).
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
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "build/release/bin"
SEEDS_OF_A_PART = 25
KINDS_OF_KILLS = 5  # of jobs, in kills_test.py
KINDS_OF_TAKE_OVERS = 4  # likewise in standby_test.py


class Simulation(typing.NamedTuple):
    """A test of the simulation, and what its reports of the kinds of jobs count."""

    program: str
    tests: str
    counts: list

    def command(self, first, seeds):
        return f"ESPALIER_FIRST_SEED={first} ESPALIER_SEEDS={seeds} build/release/bin/{self.program} --gtest_filter='{self.tests}'"


DURABLE = Simulation("coordinator_sim_test", "*DurableSimTest*", ["coordinators", "pauses"])
LINKS = Simulation(
    "links_sim_test",
    "*LinksSimTest*",
    [
        "as undisturbed",
        "coordinators",
        "clogs",
        "one way",
        "cuts",
        "workers killed",
        "updates sent again",
        "acknowledged again",
        "tasks reassigned",
    ],
)


def simulate(simulation, first, seeds):
    """One part of the seeds; its output, and whether all is well."""
    environment = os.environ | {"ESPALIER_FIRST_SEED": str(first), "ESPALIER_SEEDS": str(seeds)}
    done = subprocess.run(
        [PROGRAMS / simulation.program, f"--gtest_filter={simulation.tests}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr, done.returncode == 0


def simulations(simulation, seeds, jobs):
    begin, played, counts, failures = time.monotonic(), 0, [0] * len(simulation.counts), []
    report = re.compile(r"^\w+: (\d+) seeds, " + ", ".join(rf"(\d+) {what}" for what in simulation.counts) + "$", re.M)
    parts = range(1, seeds + 1, SEEDS_OF_A_PART)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda first: simulate(simulation, first, min(SEEDS_OF_A_PART, seeds + 1 - first)), parts)
        for first, (output, well) in zip(parts, results):
            for line in report.findall(output):
                played += int(line[0])
                counts = [count + int(more) for count, more in zip(counts, line[1:])]
            if not well:
                failures += failed(simulation, output, first)
            print(f"{simulation.program}, seeds {first} …: {'as expected' if well else 'FAILED'}", flush=True)
    seconds = time.monotonic() - begin
    text = ", ".join(
        [f"{played} simulated jobs"] + [f"{count} {what}" for count, what in zip(counts, simulation.counts)]
    ) + f" in {seconds:.0f} s, {played / seconds:.1f} jobs/s: {len(failures)} failed"
    if played == 0 or played % seeds:
        failures.append(f"expected a multiple of {seeds} jobs, found {played}")
    return [text, *failures], not failures


def failed(simulation, output, first):
    """How to play again what failed."""
    seeds = sorted(set(re.findall(r"seed (\d+)$", output, re.M)), key=int)
    return [simulation.command(seed, 1) for seed in seeds] or [f"seeds from {first} on ended the program:\n{output[-2000:]}"]


def end_to_end(test, variables, marks, lines_wanted):
    """Runs a test of real programs for long; the lines of its report, and whether all is well."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests/e2e" / test],
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
    parser.add_argument("--alerts", type=int, choices=(0, 1), default=1, help="1: faults that fire alerts and take longer than a test")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--report", type=pathlib.Path, default=ROOT / "build/chaos/report.md")
    options = parser.parse_args()
    parts = {}
    if options.seeds:
        parts["Simulation"] = simulations(DURABLE, options.seeds, options.jobs)
        parts["Simulation of links"] = simulations(LINKS, options.seeds, options.jobs)
    if options.kills:
        variables = {"ESPALIER_KILLS": str(options.kills)}
        parts["Programs that are killed"] = end_to_end("durable/kills_test.py", variables, "killed, coordinator back", KINDS_OF_KILLS)
    if options.take_overs:
        variables = {"ESPALIER_TAKE_OVERS": str(options.take_overs)}
        parts["A coordinator that takes over"] = end_to_end("durable/standby_test.py", variables, "the other worked after", KINDS_OF_TAKE_OVERS)
    if options.calls:
        parts["A kill at every system call"] = end_to_end("durable/syscalls_test.py", {"ESPALIER_EVERY_CALL": "1"}, "as undisturbed", 1)
    if options.alerts:
        parts["Faults that fire alerts"] = end_to_end("operations/more_alert_faults_test.py", {}, "Ran ", 1)
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
