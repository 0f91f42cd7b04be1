#!/usr/bin/env python3
"""What it costs a round that jobs are written down.

    tests/bench/rounds/store_time.py [--turns 3] [--rounds 600] [--data-dir DIR]

One worker, so that nothing hides a wait, and jobs of SET on the repository's digits. The coordinator keeps its jobs in a file and waits
for the disk, keeps them in a file and does not wait, in a database of a PostgreSQL server on the same machine, or keeps none. A turn is one job with each of these. Prints the medians over turns
of the median round, beside the median time of a sync of 4 KiB on the same disk in the same run, and the syncs of a round as strace
counts them in a run of its own. DIR is on the disk that is meant; default: a folder for temporary files.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import cluster  # noqa: E402
import postgres  # noqa: E402  (cluster knows where)

STORES = {
    "file, waits for the disk": (),
    "file, does not wait": ("--store-sync", "process"),
    "database, waits for its disk": ("--store", "URL"),
    "database, does not wait": ("--store", "URL", "--store-sync", "process"),
    "none": ("--store", "memory"),
}


def sync_seconds(folder, times=200):
    """The median time of a sync of 4 KiB that were appended to a file."""
    path = pathlib.Path(folder, "sync-probe")
    seconds = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(times):
            file.write(os.urandom(4096))
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - begin)
    path.unlink()
    return statistics.median(seconds)


def round_seconds(job):
    return statistics.median(float(row["duration"].rstrip("s")) for row in job["history"][20:])


def run(arguments, rounds, folder, strace=None):
    """One job on a new cluster; the finished job."""
    with tempfile.TemporaryDirectory(dir=folder) as data_dir:
        with cluster.Cluster(1, coordinator=arguments, data_dir=pathlib.Path(data_dir, "data")) as own:
            if strace is None:
                return own.run(cluster.digits_job(rounds))
            command = ["strace", "-f", "-c", "-p", str(own.coordinator.pid), "-e", "trace=fsync,fdatasync", "-o", strace]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
                time.sleep(1)  # until it is attached
                job = own.run(cluster.digits_job(rounds))
                tracer.terminate()
            return job


def syncs_of_a_round(rounds, folder):
    report = pathlib.Path(folder, "syncs")
    run((), rounds, folder, strace=report)
    calls = sum(int(line.split()[3]) for line in report.read_text().splitlines() if re.search(r"\b(fsync|fdatasync)$", line))
    return calls / rounds


def with_database(arguments, server):
    """The arguments with the URL of a database in which nothing is."""
    if "URL" in arguments:
        server.sql("DROP SCHEMA IF EXISTS espalier CASCADE")
    return [server.url if argument == "URL" else argument for argument in arguments]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=600)
    parser.add_argument("--data-dir", default=tempfile.gettempdir())
    options = parser.parse_args()
    times, syncs, hashes = {name: [] for name in STORES}, [], set()
    with postgres.Server() as server:
        for _ in range(options.turns):
            syncs.append(sync_seconds(options.data_dir))
            for name, arguments in STORES.items():
                job = run(with_database(arguments, server), options.rounds, options.data_dir)
                hashes.add(job["model_hash"])
                times[name].append(round_seconds(job))
    sync, plain = statistics.median(syncs), statistics.median(times["none"])
    print(f"A sync takes {1000 * sync:.2f} ms. Models are {'the same' if len(hashes) == 1 else 'NOT THE SAME'}.\n")
    print("| jobs are kept in | median round | rounds/s | more than none, in syncs |\n| --- | --- | --- | --- |")
    for name, rows in times.items():
        median = statistics.median(rows)
        print(f"| {name} | {1000 * median:.2f} ms | {1 / median:.0f} | {(median - plain) / sync:.2f} |")
    print(f"\nSyncs of a round: {syncs_of_a_round(options.rounds, options.data_dir):.2f}")


if __name__ == "__main__":
    main()
