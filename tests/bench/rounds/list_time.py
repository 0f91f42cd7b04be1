#!/usr/bin/env python3
"""What jobs that have ended cost: lists, single jobs, memory and the next start.

    tests/support/venv.sh build/release/venv tests/bench/rounds/list_time.py [--jobs 10000] [--rounds 20]

Runs so many small jobs of so many rounds by a real worker, through the API as a Python client. Prints how long it takes to list all of
them in pages of 1,000 and the first page of 50, to find some by a filter, and to read one that is not in memory, each as the median of
eleven; the coordinator's resident memory with no job and with all; the size of the store; and how long the next coordinator takes to
start with them.
"""

import argparse
import importlib
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
sys.path.insert(0, str(ROOT / "tests" / "e2e" / "durable"))
import grpc  # noqa: E402
import lives  # noqa: E402
import python_client_test  # noqa: E402

AT_ONCE = 64


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


def median_ms(work, times=11):
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return 1000 * statistics.median(seconds)


def request(job, data, number, rounds):
    spec = job.JobSpec(display_name=f"number {number}")
    spec.model.input_features = 8
    spec.model.layers.add().linear.units = 2
    spec.data.dataset = "none"
    spec.data.partition.kind = data.Partition.KIND_IID
    spec.data.partition.shards = 1
    spec.training.optimizer.learning_rate = 1
    spec.method.name = "echo"
    spec.federation.rounds = rounds
    return job.CreateJobRequest(spec=spec, job_id=f"job-{number}")


def run_jobs(stub, job, data, count, rounds):
    """Runs them, so many at once that the worker is never idle."""
    created = 0
    while created < count:
        batch = min(AT_ONCE, count - created)
        for number in range(created, created + batch):
            stub.CreateJob(request(job, data, number, rounds))
        created += batch
        running = job.ListJobsRequest(states=[job.Job.STATE_PENDING, job.Job.STATE_RUNNING], page_size=1)
        while stub.ListJobs(running).jobs:
            time.sleep(0.01)


def list_all(stub, job):
    token, found = "", 0
    while True:
        page = stub.ListJobs(job.ListJobsRequest(page_size=1000, page_token=token))
        found, token = found + len(page.jobs), page.next_page_token
        if not token:
            return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, lives.Lives(1) as own:
        api = python_client_test.generate_stubs(pathlib.Path(folder))
        job = api["job"]
        data = importlib.import_module("espalier.v1.data_pb2")
        stub = api["job_grpc"].JobServiceStub(grpc.insecure_channel(own.address))
        stub.ListJobs(job.ListJobsRequest())
        before = resident(own.coordinator.pid)
        begin = time.monotonic()
        run_jobs(stub, job, data, options.jobs, options.rounds)
        took = time.monotonic() - begin
        time.sleep(1)  # until the last has left memory
        assert list_all(stub, job) == options.jobs
        print(f"{options.jobs} jobs of {options.rounds} rounds, run in {took:.0f} s.\n")
        print("| | |\n| --- | --- |")
        print(f"| all, in pages of 1,000 | {median_ms(lambda: list_all(stub, job)):.1f} ms |")
        print(f"| the newest 50 | {median_ms(lambda: stub.ListJobs(job.ListJobsRequest(page_size=50))):.1f} ms |")
        some = job.ListJobsRequest(contains="NUMBER 77", page_size=50)
        print(f"| 50 by a text in their display names | {median_ms(lambda: stub.ListJobs(some)):.1f} ms |")
        numbers = iter(range(0, options.jobs, max(1, options.jobs // 12)))
        print(f"| one with its {options.rounds} rounds | {median_ms(lambda: stub.GetJob(job.GetJobRequest(name=f'jobs/job-{next(numbers)}'))):.1f} ms |")
        after = resident(own.coordinator.pid)
        print(f"| memory before, after | {before / 1e6:.1f} MB, {after / 1e6:.1f} MB: {(after - before) / options.jobs / 1e3:.2f} KB a job |")
        size = sum(file.stat().st_size for file in pathlib.Path(own.data_dir).glob("jobs.sqlite*"))
        print(f"| the store | {size / 1e6:.1f} MB |")
        own.kill_coordinator()
        own.start_again()
        print(f"| the next start | {own.recoveries[-1]:.2f} s |")


if __name__ == "__main__":
    main()
