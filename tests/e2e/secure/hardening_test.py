"""What the programs have in memory is nobody else's: docs/security/hardening.md."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from cluster import DATA, Process, words

SECRET = "a-word-in-the-environment"
# The user of the images.
USER = 10001

def limits(pid):
    """The limit of core files."""
    text = pathlib.Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
    return re.search(r"Max core file size\s+(\S+)\s+(\S+)", text).groups()


@unittest.skipUnless(os.geteuid() == 0, "only root can start programs as another user")
class MemoryTest(unittest.TestCase):
    """Programs of a user, looked at by another process of that user."""

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        os.chown(self.folder, USER, USER)

    def start(self, program, *arguments, **environment):
        return self.enterContext(Process(
            program, arguments, self.folder / f"{program}.log", user=USER, group=USER, extra_groups=[],
            env=os.environ | {"SECRET": SECRET} | environment, cwd=self.folder,
        ))

    def started(self, **environment):
        """A coordinator and a worker that run, and a command that waits for its standard input."""
        coordinator = self.start(
            "espalier-coordinator", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--data-dir",
            self.folder / "data", **environment,
        )
        address = words(coordinator.line())["address"]
        worker = self.start("espalier-worker", "--coordinator", address, "--id", "w1", "--data-root", DATA, "--threads", "2",
                            **environment)
        worker.line()
        up = self.start("espalier", "up", "--workers", "1", "--data-root", DATA, "--data-dir", self.folder / "up", **environment)
        up.line()
        return coordinator, worker, up

    def looks_at(self, pid, file):
        """What another process of the same user gets of /proc/PID/file."""
        return subprocess.run(["head", "-c", "100000", f"/proc/{pid}/{file}"], user=USER, group=USER, extra_groups=[],
                              capture_output=True, check=False)

    def test_nothing_of_a_process_can_be_read_or_dumped(self):
        for process in self.started():
            self.assertEqual(("0", "0"), limits(process.pid))
            for file in ("environ", "mem", "maps"):
                seen = self.looks_at(process.pid, file)
                self.assertNotEqual(0, seen.returncode, file)
                self.assertIn(b"Permission denied", seen.stderr)
                self.assertNotIn(SECRET.encode(), seen.stdout)

    def test_who_wants_to_debug_can_say_so(self):
        for process in self.started(ESPALIER_DEBUGGABLE="1"):
            self.assertIn(SECRET.encode(), self.looks_at(process.pid, "environ").stdout)


if __name__ == "__main__":
    unittest.main()
