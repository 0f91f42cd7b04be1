"""The dashboard's pages in a headless Chromium, against a real cluster with jobs and hostile names.

What looks at the pages are the programs browser/*_test.mjs, run by Node with these variables:

    ESPALIER_DASHBOARD_URL   the page, with a slash at its end
    ESPALIER_COORDINATOR     address of the coordinator, for `espalier --server`
    ESPALIER_JOBS            JSON: {"done": "jobs/…", "running": "jobs/…", "hostile": "jobs/…"}
    ESPALIER_CHROMIUM        path of the browser
    ESPALIER_SHOTS           folder for screenshots, which stay in the build folder

A program that ends with another code than 0 fails the test with what it printed. `browser_test.py --serve` starts the
same cluster, prints these variables and waits for Enter, for work on the pages.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from served import Served

import cluster
from cluster import BIN, DATA, ENDLESS, digits_job
from hostile_text import HOSTILE
from node_packages import node, packages

HERE = pathlib.Path(__file__).parent
PROGRAM_S = 800
# What would run in a page that takes it for its own text, wherever it is put.
SCRIPTS = (
    '<script>window.hacked=1</script>',
    '<img src=x onerror="window.hacked=1">',
    '"><svg onload=window.hacked=1>',
    "javascript:window.hacked=1",
    "{{constructor.constructor('window.hacked=1')()}}",
    "</title></style></textarea><b onmouseover=window.hacked=1>",
    "' autofocus onfocus='window.hacked=1",
)


def chromium():
    for name in ("chromium-headless-shell", "chromium"):
        if path := shutil.which(name):
            return path
    raise AssertionError("no Chromium: run cmake/deps/install.sh --test")


class Shown(cluster.Cluster):
    """A cluster that has something to show: jobs that are done, running, and of hostile names."""

    def __init__(self):
        self._root = tempfile.TemporaryDirectory()
        root = pathlib.Path(self._root.name)
        shutil.copytree(DATA / "digits", root / "digits")
        for number, script in enumerate(SCRIPTS):
            # A folder's name has no slash; what cannot be used is shown with its reason.
            (root / script.replace("/", "\u2215")).mkdir()
            (root / script.replace("/", "\u2215") / f"{number}.csv").write_text(f'"{script}",b\n1,{script}\n')
        super().__init__(workers=2, data_root=root)
        # The job that runs all the time takes what the browser leaves.
        for worker in self.workers.values():
            os.setpriority(os.PRIO_PROCESS, worker.pid, 19)
        self.callback(self._root.cleanup)
        self.run(digits_job(20, display_name="digits, done", checkpoint={"every_rounds": 5}), "--name", "done")
        # Job files are YAML, which has no pairs of surrogates for what is beyond 16 bits.
        for number, script in enumerate((*SCRIPTS, "".join(c for c in HOSTILE if ord(c) < 0x10000))):
            self.run(digits_job(1, display_name=script), "--name", f"hostile-{number}")
        running = digits_job(ENDLESS, display_name="digits, running")
        running["training"]["local_epochs"] = 20  # a few rounds a second, not hundreds
        self.submit(running, "--name", "running")
        self.wait_round("running", 3)
        self.served = self.enter_context(Served(self.address, self.folder / "dashboard.log"))
        self.shots = BIN.parent / "dashboard-shots"
        self.shots.mkdir(exist_ok=True)

    @property
    def variables(self):
        return {
            "ESPALIER_DASHBOARD_URL": self.served.url,
            "ESPALIER_COORDINATOR": self.address,
            "ESPALIER_JOBS": json.dumps({"done": "jobs/done", "running": "jobs/running", "hostile": "jobs/hostile-1"}),
            "ESPALIER_CHROMIUM": chromium(),
            "ESPALIER_SHOTS": str(self.shots),
        }


PROGRAMS = sorted((HERE / "browser").glob("*_test.mjs"))


class BrowserTest(unittest.TestCase):
    def test_pages(self):
        folder = packages(HERE / "browser", "browser-packages")
        with Shown() as shown:
            for program in PROGRAMS:
                with self.subTest(program.name):
                    done = subprocess.run(
                        [node(), folder / program.name],
                        env=os.environ | shown.variables,
                        capture_output=True,
                        text=True,
                        timeout=PROGRAM_S * cluster.SLOWNESS,
                        check=False,
                    )
                    self.assertEqual(0, done.returncode, done.stdout + done.stderr)
            self.assertTrue(shown.served.running())


def serve():
    with Shown() as shown:
        for name, value in shown.variables.items():
            print(f"export {name}='{value}'")
        input("Press Enter to end.\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        unittest.main()
