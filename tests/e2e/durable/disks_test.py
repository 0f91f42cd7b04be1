"""Disks that are full, fail, or hold what is damaged: rows 7 to 10 of docs/reliability.md."""

import contextlib
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import Process, digits_job, eventually
from lives import JOB_S, Lives


@contextlib.contextmanager
def small_disk(size, folder=None):
    """A folder, a new one where none is given, that is a file system of so many bytes."""
    with contextlib.ExitStack() as made:
        folder = folder or made.enter_context(tempfile.TemporaryDirectory())
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
        try:
            yield pathlib.Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def fill(path):
    """Takes all space that is left on a disk."""
    with open(path, "wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(64 * 1024))
            file.flush()


@contextlib.contextmanager
def failing_syncs(pid, log):
    """From now on every sync of a process fails."""
    command = ["strace", "-f", "-p", str(pid), "-o", log, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=cluster.die_with_parent)
    try:
        yield
    finally:
        tracer.kill()
        tracer.wait()


class DisksTest(unittest.TestCase):
    def lives(self, workers):
        return self.enterContext(Lives(workers))

    def test_row_7_a_full_disk_holds_jobs_up_and_loses_nothing(self):
        calm = self.lives(2)
        job = digits_job(200, checkpoint={"every_rounds": 1, "keep": 1})
        expected = calm.run(job)["model_hash"]
        calm.close()
        small = self.enterContext(small_disk(24 * 1024 * 1024))
        own = self.enterContext(Lives(2, data_dir=small))
        filler = small / "filler"
        filler.touch()  # on a disk that is full for a moment there is no room for its name
        name = own.submit(job)["name"]
        own.wait_round(name, 5)
        fill(filler)

        def condition():
            conditions = own.job(name)["conditions"]
            return conditions and conditions[0]["type"] == "WAITING_STORAGE" and conditions[0]

        waits = eventually("the job says that it waits", condition)
        self.assertIn("space", waits["message"])
        # What the store has room for in the pages that it has is accepted, and then has to be kept.
        other = own.cli("job", "submit", own.file(digits_job(1)), "-o", "json")
        if other.code != 0:
            self.assertIn(other.error["reason"], ("STORAGE_FULL", "STORAGE_ERROR"), other.err)
        filler.unlink()
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
        self.assertEqual(expected, done["model_hash"])
        if other.code == 0:
            own.wait_state(other.json["name"], "SUCCEEDED", seconds=JOB_S)
        self.assertEqual([], list((small / "checkpoints").glob("*.tmp*")))

    def test_row_8_a_failed_sync_ends_the_process_and_the_next_one_goes_on(self):
        own = self.lives(2)
        expected = own.run(digits_job(100))["model_hash"]
        name = own.submit(digits_job(100))["name"]
        own.wait_round(name, 5)
        with failing_syncs(own.coordinator.pid, own.folder / "strace.log"):
            self.assertEqual(74, own.coordinator.wait())
        self.assertIn("SYNC_FAILED", own.coordinator.errors())
        own.start_again()
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual(expected, done["model_hash"], done["failure_message"])

    def test_row_9_a_damaged_store_is_named_and_stays(self):
        own = self.lives(1)
        own.run(digits_job(50))
        own.kill_coordinator(signal.SIGTERM)
        path = own.folder / "data" / "jobs.sqlite"
        with open(path, "r+b") as file:
            file.seek(4096 * 4)
            file.write(b"\xa5" * 4096)
        before = path.read_bytes()
        self.assertEqual(65, self.refused(own, str(path), "damaged"))
        self.assertEqual(before, path.read_bytes())

    def test_row_10_a_store_of_a_later_version_stays_untouched(self):
        own = self.lives(0)
        own.kill_coordinator(signal.SIGTERM)
        path = own.folder / "data" / "jobs.sqlite"
        # The header's field user_version (SQLite's file format, section 1.3).
        with open(path, "r+b") as file:
            file.seek(60)
            file.write((99).to_bytes(4, "big"))
        before = path.read_bytes()
        self.assertEqual(78, self.refused(own, "version 99"))
        self.assertEqual(before, path.read_bytes())

    def refused(self, own, *words):
        log = own.folder / "refused.log"
        arguments = ["--listen", own.address, "--metrics-listen", "127.0.0.1:0", "--data-dir", own.folder / "data"]
        with Process("espalier-coordinator", arguments, log) as process:
            code = process.wait(10)
        line = log.read_text().strip().splitlines()[-1]
        self.assertIn(" error cannot_start ", line)
        for word in words:
            self.assertIn(word, line)
        return code


if __name__ == "__main__":
    unittest.main()
