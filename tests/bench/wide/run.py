#!/usr/bin/env python3
"""A job of many participants beside an idle worker that can do none of its tasks.

    tests/bench/wide/run.py [SHARDS ...]      default: 10000 100000; prints a Markdown table
    tests/bench/wide/run.py jobs              1,000 jobs that wait, and one that runs, instead

One worker has the data set, of one example for each shard; the other has none of it. Measured for 20 s of the first
round: the coordinator's peak memory, how long the core was held at most and at the 99.9th percentile (upper bounds of the
histogram's buckets), how long `worker list` takes, and tasks a second.
"""

import pathlib
import re
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import cluster  # noqa: E402  # pylint: disable=wrong-import-position

SECONDS = 20
FEATURES = 64
JOB = {
    "model": {"input_features": FEATURES,
              "layers": [{"linear": {"units": 213, "activation": "relu"}}, {"linear": {"units": 10}}]},
    "data": {"dataset": "wide"},
    "method": {"name": "dense"},
    "training": {"batch_size": 1, "local_epochs": 1, "optimizer": {"kind": "sgd", "learning_rate": 0.1}},
    "federation": {"rounds": 1, "round_deadline": "3600s"},
}


def peak_mb(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1000


def core_buckets(address):
    page = urllib.request.urlopen(address, timeout=10).read().decode()
    pattern = r'espalier_executor_task_duration_seconds_bucket\{executor="core",le="([^"]+)"\} (\S+)'
    return [(bound, float(count)) for bound, count in re.findall(pattern, page)]


def upper_bound(buckets, share):
    total = buckets[-1][1]
    return next(bound for bound, count in buckets if count >= share * total)


def measure(shards):
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "wide"
        data.mkdir()
        row = ",".join(["0.5"] * FEATURES)
        data.joinpath("train.csv").write_text("".join(f"{row},{i % 10}\n" for i in range(shards)))
        data.joinpath("test.csv").write_text("".join(f"{row},{i % 10}\n" for i in range(10)))
        with cluster.Cluster() as own:
            own.add_worker("able", data_root=folder)
            own.add_worker("idle", data_root=cluster.DATA)
            idle = peak_mb(own.coordinator.pid)
            job = JOB | {"data": {"dataset": "wide", "partition": {"kind": "iid", "shards": shards}}}
            name = own.submit(job)["name"]
            answers = []
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                start = time.monotonic()
                workers = own.cli("worker", "list", "-o", "json").ok().json["workers"]
                answers.append(time.monotonic() - start)
                time.sleep(0.2)
            done = max(int(worker["tasks_completed"]) for worker in workers)
            buckets = core_buckets(f"http://{own.metrics}/metrics")
            peak = peak_mb(own.coordinator.pid)
            own.cli("job", "cancel", name)  # unless it has ended by now
            return (f"| {shards:,} | {idle:.0f} MB | {peak:.0f} MB | {upper_bound(buckets, 0.999)} s "
                    f"| {upper_bound(buckets, 1)} s | {max(answers):.2f} s | {done / SECONDS:.0f} |")


def measure_jobs(count=1000):
    """Creates jobs that wait for workers, runs one beside them, and lists them all."""
    with cluster.Cluster(2) as own:
        waiting = cluster.digits_job(1)
        waiting["federation"] = waiting.get("federation", {}) | {"min_workers": 50}
        path = own.file(waiting)
        for _ in range(count):
            own.cli("job", "submit", path).ok()
        own.run(cluster.digits_job(20))
        own.cli("job", "list").ok()
        buckets = core_buckets(f"http://{own.metrics}/metrics")
        return (f"| {count:,} jobs wait | {peak_mb(own.coordinator.pid):.0f} MB "
                f"| {upper_bound(buckets, 0.99)} s | {upper_bound(buckets, 1)} s |")


def main():
    if sys.argv[1:] == ["jobs"]:
        print("| | peak | core held, 99 % | core held, all |\n| --- | --- | --- | --- |")
        print(measure_jobs())
        return
    print("| shards | memory before | peak | core held, 99.9 % | core held, all | `worker list`, slowest | tasks/s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for shards in [int(word) for word in sys.argv[1:]] or [10_000, 100_000]:
        print(measure(shards), flush=True)


if __name__ == "__main__":
    main()
