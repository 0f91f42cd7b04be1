"""A project of ten lines that finds the installed C++ client library, and lists a cluster's jobs with it."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import digits_job

BUILD = pathlib.Path(os.environ["ESPALIER_BIN_DIR"]).parent
PAGE = pathlib.Path(os.environ["ESPALIER_SOURCE_DIR"]) / "docs" / "operations" / "packages.md"


def block(language):
    """The block of the page in that language, so that what is tested is what people read."""
    text = PAGE.read_text()
    begin = text.index(f"```{language}\n") + len(language) + 4
    return text[begin : text.index("```", begin)]


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=200)
    if done.returncode != 0:
        raise AssertionError(f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


class ConsumerTest(unittest.TestCase):
    def test_a_project_of_ten_lines_lists_jobs(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for component in ("library", "protocol"):
            run("cmake", "--install", BUILD, "--component", component, "--prefix", folder / "prefix")
        (folder / "CMakeLists.txt").write_text(block("cmake"))
        (folder / "main.cc").write_text(block("cpp"))
        run("cmake", "-G", "Ninja", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={folder / 'prefix'}")
        run("cmake", "--build", folder / "build")
        own = self.enterContext(cluster.Cluster(workers=1))
        own.run(digits_job(2), "--name", "seen")
        self.assertEqual("jobs/seen is STATE_SUCCEEDED\n", run(folder / "build" / "jobs", own.address))
        # What is installed knows nothing of where it was built.
        for file in (folder / "prefix").rglob("*.cmake"):
            self.assertNotIn(os.environ["ESPALIER_SOURCE_DIR"], file.read_text(), file)


if __name__ == "__main__":
    unittest.main()
