"""What the programs have in memory is nobody else's: docs/security/hardening.md."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from cluster import BIN, DATA, Process, words

SECRET = "a-word-in-the-environment"
# The user of the images.
USER = 10001
# The instruction that an indirect jump has to end at.
ENDBR64 = bytes.fromhex("f30f1efa")

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
        up = self.start("espalier", "up", "--workers", "1", "--port", "0", "--metrics-port", "0", "--data-root", DATA,
                        "--data-dir", self.folder / "up", **environment)
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


class CompiledTest(unittest.TestCase):
    """What the files of the programs say about how they were compiled and linked."""

    PROGRAMS = ("espalier", "espalier-coordinator", "espalier-worker")

    @staticmethod
    def read(program, *flags):
        done = subprocess.run(["readelf", "--wide", *flags, str(pathlib.Path(BIN) / program)], capture_output=True, text=True, check=True)
        return done.stdout

    def test_programs_lie_anywhere_and_their_tables_are_read_only(self):
        for program in self.PROGRAMS:
            with self.subTest(program):
                self.assertRegex(self.read(program, "--file-header"), r"Type:\s+DYN")
                self.assertRegex(self.read(program, "--dynamic"), r"FLAGS_1.*\bNOW\b.*\bPIE\b")
                segments = self.read(program, "--program-headers")
                self.assertIn("GNU_RELRO", segments)
                self.assertRegex(segments, r"GNU_STACK\s.*\sRW\s")
                self.assertNotRegex(segments, r"LOAD\s.*\sRWE\s", "something is both written and executed")

    def test_overruns_are_looked_for(self):
        for program in self.PROGRAMS:
            with self.subTest(program):
                symbols = self.read(program, "--dyn-syms")
                self.assertIn("__stack_chk_fail", symbols)
                self.assertRegex(symbols, r"__(memcpy|snprintf|fprintf|strcpy|vsnprintf|read)_chk")

    @unittest.skipUnless(os.uname().machine == "x86_64", "the first instruction of a function is another one elsewhere")
    def test_indirect_jumps_end_where_functions_begin(self):
        for program in self.PROGRAMS:
            with self.subTest(program):
                code = (pathlib.Path(BIN) / program).read_bytes()
                self.assertGreater(code.count(ENDBR64), 1000)


if __name__ == "__main__":
    unittest.main()
