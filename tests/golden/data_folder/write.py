#!/usr/bin/env python3
"""Writes the data folder of the version that is built, as it is when its coordinator was killed.

    tests/golden/data_folder/write.py

The archive has the folder, what its workers keep, and expected.json, which says what is in it.
"""

import json
import pathlib
import signal
import tarfile
import tempfile

import jobs
from cluster import digits_job


def fail(own):
    """A job fails when nobody does its round in time."""
    federation = {"rounds": jobs.ROUNDS, "round_deadline": "1s", "on_quorum_loss": "fail"}
    name = own.submit(digits_job(federation=federation), "--name", "failed")["name"]
    own.wait_round(name, 3)
    for worker in own.workers.values():
        worker.send(signal.SIGSTOP)
    own.wait_state(name, "FAILED")
    for worker in own.workers.values():
        worker.send(signal.SIGCONT)


def fill(own):
    own.run(digits_job(5), "--name", "done")
    own.submit(digits_job(100_000), "--name", "cancelled")
    own.wait_round("cancelled", 2)
    own.cli("job", "cancel", "cancelled").ok()
    fail(own)
    for name, job in jobs.paused_jobs().items():
        own.submit(job, "--name", name)
        own.wait_round(name, 3)
        own.cli("job", "pause", name).ok()
    expected = {name: jobs.seen(own, name) for name in ("done", "cancelled", "failed", *jobs.paused_jobs())}
    # The store's log is empty then, so that the archive is small.
    own.kill_coordinator(signal.SIGTERM)
    own.start_again()
    own.submit(digits_job(2000), "--name", "killed")
    own.wait_round("killed", 3)
    own.kill_coordinator()
    return expected


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with jobs.fleet(folder, folder / "data") as own:
            version = own.cli("version", "-o", "json").ok().json["version"]
            expected = fill(own)
        (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
        archive = jobs.HERE / f"{version}.tar.xz"
        with tarfile.open(archive, "w:xz") as tar:
            tar.add(folder / "expected.json", "expected.json")
            tar.add(folder / "data", "data")
            tar.add(folder / "workers", "workers")
        print(f"{archive.relative_to(jobs.HERE.parents[2])}: {archive.stat().st_size} bytes")


if __name__ == "__main__":
    main()
