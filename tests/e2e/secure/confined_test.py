"""The programs work with no more than deploy/systemd and the images leave them: the system calls of @system-service, and a
user without any privilege."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import BIN, SOURCE, digits_job

FILTER = pathlib.Path(__file__).with_name("filtered.py")
UNITS = sorted((SOURCE / "deploy/systemd").glob("*.service"))
USER = 10001
# Of 10; what a service without any of these lines has.
MOST_EXPOSED = 3.0


class Confined(cluster.Cluster):
    """A cluster whose programs are started by another one, which is given as the beginning of a command."""

    def __init__(self, command, **options):
        self.command = list(map(str, command))
        super().__init__(**options)

    def _start(self, arguments, workers):
        self.programs = self.folder / "programs"
        self.programs.mkdir()
        for program in ("espalier-coordinator", "espalier-worker"):
            script = self.programs / program
            script.write_text(f'#!/bin/sh\nexec {shlex.join([*self.command, str(BIN / program)])} "$@"\n')
            script.chmod(0o755)
        super()._start(arguments, workers)


def train(test, running):
    """A job with checkpoints, over two workers, one of which has several threads."""
    running.add_worker("w2", arguments=["--threads", "2"])
    job = running.run(digits_job(3, checkpoint={"every_rounds": 1}), "--name", "confined")
    test.assertEqual("SUCCEEDED", job["state"])
    running.cli("checkpoint", "verify").ok()
    # In order: a signal, the last write, and the end of all threads.
    for process in (running.workers["w1"], running.coordinator):
        process.send(15)
        test.assertEqual(0, process.wait(), process.errors())


@unittest.skipUnless(shutil.which("systemd-analyze"), "expected systemd-analyze, which knows the sets of calls")
class FilterTest(unittest.TestCase):
    def test_the_filter_refuses_what_services_do_not_need(self):
        attempt = ["/bin/sh", "-c", "chroot / /bin/true"]
        refused = subprocess.run([FILTER, "errno", *attempt], check=False, capture_output=True, text=True)
        self.assertNotEqual(0, refused.returncode)
        self.assertIn("Operation not permitted", refused.stderr)
        killed = subprocess.run([FILTER, "kill", *attempt], check=False, capture_output=True, text=True)
        self.assertEqual(128 + 31, killed.returncode % 256 if killed.returncode >= 0 else 128 - killed.returncode)

    def test_a_job_runs_when_other_calls_fail(self):
        with Confined([FILTER, "errno"], workers=1) as running:
            train(self, running)

    def test_no_other_call_is_even_tried(self):
        with Confined([FILTER, "kill"], workers=1) as running:
            train(self, running)

    def test_units_have_the_filter(self):
        self.assertEqual(2, len(UNITS))
        for unit in UNITS:
            text = unit.read_text()
            for line in ("SystemCallFilter=@system-service", "SystemCallErrorNumber=EPERM", "NoNewPrivileges=yes", "LimitCORE=0"):
                self.assertIn(f"\n{line}\n", text)
            said = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit], text=True,
                                  capture_output=True, check=False, env=os.environ | {"SYSTEMD_COLORS": "0"}).stdout
            level = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])
            self.assertLess(level, MOST_EXPOSED, said)


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("setpriv"), "only root can start programs as another user")
class UserTest(unittest.TestCase):
    def test_a_user_without_privileges_runs_a_job(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chown(folder, USER, USER)
            command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all",
                       "--no-new-privs", "--pdeathsig=KILL", "--"]
            with Confined(command, workers=1, data_dir=pathlib.Path(folder) / "data") as running:
                status = pathlib.Path(f"/proc/{running.coordinator.pid}/status").read_text(encoding="ascii")
                self.assertRegex(status, rf"Uid:\s+{USER}\s+{USER}\s+{USER}\s+{USER}")
                self.assertRegex(status, r"CapBnd:\s+0+\n")
                train(self, running)
            owners = {path.stat().st_uid for path in pathlib.Path(folder).rglob("*")}
            self.assertEqual({USER}, owners)


if __name__ == "__main__":
    unittest.main()
