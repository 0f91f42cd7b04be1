#!/usr/bin/env python3
"""Cost of a round without training: echo workers give the values back as they came.

    tests/bench/rounds/run.py              latency, memory and bytes; prints Markdown tables

latency: median and 99th percentile of a round, 1 k parameters, 4 and 32 workers.
memory:  peak memory of the coordinator with 2 and 64 workers, 25 M parameters at density 0.05.
bytes:   payload of a worker-round each way against 4 bytes per active weight.
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = ROOT / "build" / "release" / "bin" / "espalier"

JOB = """
model:
  input_features: {inputs}
  layers: [{{linear: {{units: {units}}}}}]
data: {{dataset: digits, partition: {{kind: iid, shards: {workers}}}}}
method: {{name: echo, parameters: {{density: {density}}}}}
training: {{batch_size: 1, optimizer: {{kind: sgd, learning_rate: 0.1}}}}
federation: {{rounds: {rounds}, min_workers: {workers}}}
evaluation: {{every_rounds: 1000000, central: true}}
"""


def peak_memory(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) * 1024


def child_named(parent, name):
    for line in subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)],
                               stdout=subprocess.PIPE, text=True).stdout.splitlines():
        pid, args = line.split(None, 1)
        if name in args.split()[0]:
            return int(pid)
    sys.exit(f"no {name} among the children of {parent}")


def run(workers, inputs, units, density, rounds):
    """Runs one echo job on a fresh cluster; returns the job and the coordinator's peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        up = subprocess.Popen([BIN, "up", "--workers", str(workers), "--port", "0", "--metrics-port",
                               "0", "--data-root", str(ROOT / "data"), "--data-dir", folder],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            server = re.search(r"address=(\S+)", up.stdout.readline()).group(1)
            job = pathlib.Path(folder, "job.yaml")
            job.write_text(JOB.format(inputs=inputs, units=units, density=density, rounds=rounds,
                                      workers=workers))
            done = subprocess.run([BIN, "--server", server, "job", "submit", job, "--wait", "-o",
                                   "json"], stdout=subprocess.PIPE, text=True, check=True)
            return json.loads(done.stdout), peak_memory(child_named(up.pid, "espalier-coordinator"))
        finally:
            up.terminate()
            up.wait(30)


def milliseconds(job):
    return [1000 * float(r["duration"].rstrip("s")) for r in job["history"]][20:]


def main():
    print("| workers | parameters | rounds | median round | 99th percentile |\n"
          "| --- | --- | --- | --- | --- |")
    for workers, rounds in ((1, 900), (4, 900), (32, 300)):
        job, _ = run(workers, 64, 15, 1, rounds)
        times = sorted(milliseconds(job))
        print(f"| {workers} | {job['stored_parameters']} | {len(times)} | "
              f"{statistics.median(times):.2f} ms | {times[int(len(times) * 0.99)]:.2f} ms |",
              flush=True)
    print("\n| workers | active weights | coordinator peak | bytes down / (4 B·nnz) | bytes up / (4 B·nnz) "
          "| median round |\n| --- | --- | --- | --- | --- | --- |")
    for workers in (2, 64):
        job, memory = run(workers, 5000, 5000, 0.05, 6)
        steady = job["history"][2:]
        payload = 4 * int(job["stored_parameters"]) * workers * len(steady)
        down = sum(int(r["bytes_sent"]) for r in steady) / payload
        up = sum(int(r["bytes_received"]) for r in steady) / payload
        median = statistics.median(1000 * float(r["duration"].rstrip("s")) for r in steady)
        print(f"| {workers} | {job['stored_parameters']} | {memory / 1e6:.1f} MB | {down:.4f} | {up:.4f} | "
              f"{median:.0f} ms |", flush=True)


if __name__ == "__main__":
    main()
