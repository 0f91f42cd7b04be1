#!/usr/bin/env python3
"""A job of many rounds with many light workers: what of the coordinator grows with the rounds.

    tests/chaos/soak.py [--workers 64] [--rounds 2000] [--report build/chaos/soak.md]

Memory, descriptors, threads, and the bytes of the data folder are looked at every second. The coordinator remembers the ids of the newest
65,536 updates that counted, about 300 bytes each, so that memory grows until there have been so many. Growth is the slope of a line
through what was seen after that. Exits with 1 when memory grew by more than 1 MB per 1,000 rounds then, or descriptors did.
"""

import argparse
import datetime
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/e2e"), str(ROOT / "tests/e2e/durable")]

from cluster import digits_job
from lives import Lives

MOST_BYTES_OF_1000_ROUNDS = 1_000_000
REMEMBERED_UPDATES = 65_536  # UpdateLedger::kRemembered
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


def light_job(workers, rounds):
    job = digits_job(rounds)
    job["model"]["layers"] = [{"linear": {"units": 16, "activation": "relu"}}, {"linear": {"units": 10}}]
    job["data"]["partition"]["shards"] = workers
    job["training"] |= {"local_steps": 1}
    del job["training"]["local_epochs"]
    job["evaluation"] |= {"every_rounds": 100}
    return job


def look_at(own, job):
    """What there is of the coordinator, and of its folder, at a round."""
    process = pathlib.Path("/proc") / str(own.coordinator.pid)
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return {
        "round": job["round"],
        "memory": int(status["VmRSS"].split()[0]) * 1024,
        "threads": int(status["Threads"]),
        "descriptors": len(list((process / "fd").iterdir())),
        "folder": sum(path.stat().st_size for path in pathlib.Path(own.data_dir).rglob("*") if path.is_file()),
    }


def growth(seen, what):
    """Per 1,000 rounds: the slope of the line of least squares."""
    mean_round = sum(one["round"] for one in seen) / len(seen)
    mean = sum(one[what] for one in seen) / len(seen)
    spread = sum((one["round"] - mean_round) ** 2 for one in seen)
    return 1000 * sum((one["round"] - mean_round) * (one[what] - mean) for one in seen) / max(spread, 1)


def soak(workers, rounds):
    seen = []
    with Lives() as own:
        for i in range(workers):
            own.add_worker(f"w{i + 1}", wait=False)
        name = own.submit(light_job(workers, rounds))["name"]
        begin = time.monotonic()
        while (job := own.job(name))["state"] not in ENDED:
            seen.append(look_at(own, job))
            time.sleep(1)
        seconds = time.monotonic() - begin
        if job["state"] != "SUCCEEDED":
            raise AssertionError(f"the job ended as {job['state']}: {job['failure_message']}")
        return seen, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--report", type=pathlib.Path, default=ROOT / "build/chaos/soak.md")
    arguments = parser.parse_args()
    settled = REMEMBERED_UPDATES // arguments.workers
    if arguments.rounds < 1.2 * settled:
        parser.error(f"expected more than {1.2 * settled:.0f} rounds with so many workers, found {arguments.rounds}")
    every, seconds = soak(arguments.workers, arguments.rounds)
    seen = [one for one in every if one["round"] > settled]
    lines = [
        f"# {arguments.workers} workers, {arguments.rounds} rounds, {datetime.date.today()}",
        "",
        f"{seconds:.0f} s, {arguments.rounds / seconds:.1f} rounds/s; looked at {len(every)} times.",
        "",
        f"| | round {every[0]['round']} | round {seen[0]['round']} | round {seen[-1]['round']} | then per 1,000 rounds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for what in ("memory", "folder", "descriptors", "threads"):
        lines.append(f"| {what} | {every[0][what]:,} | {seen[0][what]:,} | {seen[-1][what]:,} | {growth(seen, what):+,.1f} |")
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    grew = growth(seen, "memory") > MOST_BYTES_OF_1000_ROUNDS or growth(seen, "descriptors") >= 1
    sys.exit(1 if grew else 0)


if __name__ == "__main__":
    main()
