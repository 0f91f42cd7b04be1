#!/usr/bin/env python3
"""Kills a coordinator in the middle of a job, while another one stands by for it, and compares the models.

    ESPALIER_POSTGRES_URL=postgresql://user@host/database deploy/standby/demo.py

The database is filled by the demonstration, and should be an empty one. `make demo-standby` starts a server of its own.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("ESPALIER_BIN_DIR", SOURCE / "build/release/bin"))
JOB = SOURCE / "docs/examples/digits-set.yaml"
ROUNDS = 60
KILL_AT = 15
WORKERS = 3
PATIENCE_S = 120


def say(text):
    print(text, flush=True)


class Processes(contextlib.ExitStack):
    """Programs that end with the demonstration."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def start(self, name, program, *arguments):
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen([BIN / program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=log, text=True)
        self.callback(self.end, process)
        return process

    @staticmethod
    def end(process):
        process.kill()
        process.wait()
        process.stdout.close()

    def coordinator(self, name, url, *arguments):
        """The process, and its first line: whether it works or stands by."""
        process = self.start(
            name, "espalier-coordinator", "--store", url, "--data-dir", self.folder / name, "--shared-dir", self.folder / "shared",
            "--metrics-listen", "127.0.0.1:0", *arguments,
        )
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{name} did not start:\n" + (self.folder / f"{name}.log").read_text(errors="replace"))
        return process, line

    def workers(self, addresses):
        for i in range(1, WORKERS + 1):
            self.start(f"worker-{i}", "espalier-worker", "--coordinator", addresses, "--id", f"worker-{i}", "--data-root",
                       SOURCE / "data", "--metrics-listen", "127.0.0.1:0").stdout.readline()


def espalier(addresses, *arguments):
    done = subprocess.run([BIN / "espalier", "--server", addresses, *arguments, "-o", "json"], text=True, capture_output=True,
                          check=False)
    if done.returncode != 0:
        raise SystemExit(f"espalier {' '.join(map(str, arguments))} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def submit(addresses, *arguments):
    return espalier(addresses, "job", "submit", JOB, "--set", f"federation.rounds={ROUNDS}", *arguments)


def follow(addresses, job, until):
    """Asks for the job until `until` says that it is as it should be."""
    end = time.monotonic() + PATIENCE_S
    while not until(found := espalier(addresses, "job", "get", job)):
        if time.monotonic() > end:
            raise SystemExit(f"{job} is {found['state']} in round {found['round']} after {PATIENCE_S} s")
        time.sleep(0.02)
    return found


def ended(job):
    return job["state"] in ("SUCCEEDED", "FAILED", "CANCELLED")


def undisturbed(folder):
    """The model of the same job when nothing happens."""
    with Processes(folder) as own:
        process = own.start("calm", "espalier-coordinator", "--store", "memory", "--data-dir", folder / "calm", "--listen",
                            "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
        address = process.stdout.readline().split("address=")[1].split()[0]
        own.workers(address)
        return follow(address, submit(address)["name"], ended)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main():
    url = os.environ.get("ESPALIER_POSTGRES_URL")
    if not url:
        raise SystemExit(__doc__)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        calm = undisturbed(folder)
        say(f"undisturbed     {ROUNDS} rounds of {JOB.name} on {WORKERS} workers, model {calm['model_hash'][:16]}")
        own = stack.enter_context(Processes(folder))
        addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        first, _ = own.coordinator("a", url, "--listen", addresses[0])
        second, line = own.coordinator("b", url, "--listen", addresses[1])
        if not line.startswith("stands-by"):
            raise SystemExit(f"expected that b stands by, found: {line}")
        both = ",".join(addresses)
        say(f"coordinators    a works at {addresses[0]}, b stands by at {addresses[1]}")
        own.workers(both)
        name = submit(both)["name"]
        at = follow(both, name, lambda job: job["round"] >= KILL_AT)["round"]
        killed = time.monotonic()
        first.send_signal(signal.SIGKILL)
        say(f"round {at:<10}a is killed (SIGKILL)")
        second.stdout.readline()
        say(f"+{time.monotonic() - killed:4.1f} s         b has taken over, and goes on")
        follow(both, name, lambda job: job["round"] > at)
        say(f"+{time.monotonic() - killed:4.1f} s         the next round is done")
        done = follow(both, name, ended)
        say(f"with the kill   {done['state']}, round {done['round']}, model {done['model_hash'][:16]}")
        same = done["model_hash"] == calm["model_hash"]
        say("the same model, to the last bit" if same else "the models differ")
        return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
