"""Backups that are made while the coordinator runs, and coordinators that begin with them."""

import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import digits_job
from lives import JOB_S, Lives

ROUNDS = 300


def wide_job(rounds, **sections):
    """Its states are too long for the store: they are parts."""
    model = {"input_features": 64, "layers": [{"linear": {"units": 3000, "activation": "relu"}}, {"linear": {"units": 10}}]}
    return digits_job(rounds, model=model, **sections)


class BackupTest(unittest.TestCase):
    def copy(self, own, *flags, data_dir=None):
        command = [cluster.BIN / "espalier-coordinator", "--data-dir", data_dir or own.data_dir, *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def test_restored_coordinator_goes_on_with_the_jobs_of_that_moment(self):
        own = self.enterContext(Lives(2))
        expected = own.run(digits_job(ROUNDS))["model_hash"]
        wide = own.run(wide_job(40))["model_hash"]
        own.submit(wide_job(40), "--name", "paused")
        own.wait_round("jobs/paused", 2)
        own.cli("job", "pause", "paused").ok()
        name = own.submit(digits_job(ROUNDS), "--name", "running")["name"]
        own.wait_round(name, 20)
        # Several, of which each is a moment between other rounds.
        for number in range(3):
            made = self.copy(own, "--backup", own.folder / f"backup-{number}")
            self.assertEqual(0, made.returncode, made.stderr)
            self.assertRegex(made.stdout, r"^backed-up jobs=4 parts=[1-9]\d* checkpoints=[23]\n$")
        self.assertEqual(expected, own.wait_state(name, "SUCCEEDED", seconds=JOB_S)["model_hash"])
        self.assertNotIn("store_not_written", own.coordinator.errors())
        for number in range(3):
            again = own.folder / f"data-{number}"
            restored = self.copy(own, "--restore", own.folder / f"backup-{number}", data_dir=again)
            self.assertEqual(0, restored.returncode, restored.stderr)
            other = self.enterContext(Lives(2, data_dir=again))
            self.assertEqual("PAUSED", other.job("paused")["state"])
            other.cli("job", "resume", "paused").ok()
            for job, model in ((name, expected), ("paused", wide)):
                done = other.wait_state(job, "SUCCEEDED", "FAILED", seconds=JOB_S)
                self.assertEqual(model, done["model_hash"], done["failure_message"])
            other.cli("checkpoint", "verify").ok()
            other.close()

    def test_what_cannot_be_copied_is_said_and_stays(self):
        own = self.enterContext(Lives(1))
        own.run(wide_job(1))
        own.submit(wide_job(1000), "--name", "paused")
        own.wait_round("jobs/paused", 1)
        own.cli("job", "pause", "paused").ok()
        backup = own.folder / "backup"
        self.assertEqual(0, self.copy(own, "--backup", backup).returncode)
        self.refused("BACKUP_TARGET_USED", 78, self.copy(own, "--backup", backup))
        self.refused("RESTORE_TARGET_USED", 78, self.copy(own, "--restore", backup, data_dir=own.folder / "data2/../backup"))
        self.refused("STORE_NOT_FOUND", 78, self.copy(own, "--backup", own.folder / "b", data_dir=own.folder))
        self.refused("STORE_NOT_FOUND", 78, self.copy(own, "--restore", own.folder / "none", data_dir=own.folder / "new"))
        self.refused("DATA_DIR_LOCKED", 75, self.copy(own, "--restore", backup))
        self.assertEqual(64, self.copy(own, "--backup", "a", "--restore", "b").returncode)
        for file in (*(backup / "parts").iterdir(), *(backup / "checkpoints").iterdir(), backup / "jobs.sqlite"):
            whole = file.read_bytes()
            file.unlink()  # it may be linked
            damaged = bytearray(whole)
            # Of the store a byte that is in use: in the record of a job.
            at = whole.rindex(b"jobs/paused") if file.suffix == ".sqlite" else len(damaged) // 2
            damaged[at] ^= 1
            file.write_bytes(damaged)
            new = own.folder / f"new-{file.name}"
            self.assertEqual(65, self.copy(own, "--restore", backup, data_dir=new).returncode, file)
            self.assertFalse((new / "jobs.sqlite").exists())
            for other in (None, b""):  # gone, and empty
                file.unlink(missing_ok=True)
                if other is not None:
                    file.write_bytes(other)
                if file.suffix == ".safetensors" and other is None:
                    continue  # there may be any number of checkpoints
                done = self.copy(own, "--restore", backup, data_dir=new)
                self.assertIn(done.returncode, (65, 78), (file, other))
                self.assertFalse((new / "jobs.sqlite").exists())
            file.write_bytes(whole)
        beside = own.folder / "beside"
        beside.mkdir()
        (beside / "jobs.sqlite-wal").write_bytes(b"of another store")
        self.refused("RESTORE_TARGET_USED", 78, self.copy(own, "--restore", backup, data_dir=beside))
        self.assertEqual(0, self.copy(own, "--restore", backup, data_dir=own.folder / "whole").returncode)

    def refused(self, reason, code, done):
        self.assertIn(reason, done.stderr)
        self.assertEqual(code, done.returncode)


if __name__ == "__main__":
    unittest.main()
