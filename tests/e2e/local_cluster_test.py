"""`espalier up` and `espalier demo`: what they show, and that nothing is left of them."""

import json
import os
import pathlib
import re
import signal
import tempfile
import unittest
import urllib.request

import cluster
import datasets
from cluster import Process, digits_job, espalier, eventually
from terminal import Terminal

DEMO_WORKERS = 3


def descendants(pid):
    """Process ids of the children, by program, as the kernel knows them now."""
    found = {}
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(
                line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line
            )
            if int(fields["PPid"]) == pid and not fields["State"].startswith("Z"):
                found[int(fields["Pid"])] = os.readlink(status.with_name("exe")).rsplit("/", 1)[-1]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def alive(pids):
    """Those that still run; one that nobody has waited for yet does not."""

    def runs(pid):
        try:
            return (
                pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                not in "ZX"
            )
        except (FileNotFoundError, ProcessLookupError):
            return False

    return [pid for pid in pids if runs(pid)]


class UpTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def start(self, workers=2, data_root=cluster.DATA):
        up = self.enterContext(
            Process(
                "espalier",
                [
                    "up",
                    "--workers",
                    workers,
                    "--port",
                    0,
                    "--metrics-port",
                    0,
                    "--data-root",
                    data_root,
                    "--data-dir",
                    self.folder / "data",
                ],
                self.folder / "up.log",
            )
        )
        line = cluster.words(up.line())
        eventually("up tells how to stop", lambda: "Ctrl-C stops everything" in up.errors())
        children = descendants(up.pid)
        self.assertEqual(
            ["espalier", "espalier-coordinator"] + ["espalier-worker"] * workers, sorted(children.values())
        )
        self.dashboard = line["dashboard"]
        return up, line["address"], list(children)

    def test_runs_a_job_and_stops(self):
        up, address, children = self.start()
        self.assertIn(f"espalier --server {address} job submit", up.errors())
        self.assertEqual(
            2, len(re.findall(r"worker-\d: +http://127.0.0.1:\d+/metrics", up.errors()))
        )
        job = self.folder / "job.yaml"
        job.write_text(json.dumps(digits_job()))
        done = espalier("job", "submit", job, "--wait", "-o", "json", server=address).ok()
        self.assertEqual("SUCCEEDED", done.json["state"])
        up.send(signal.SIGINT)
        self.assertIn(up.wait(), (0, 130))
        self.assertEqual([], alive(children))
        self.assertEqual(
            {"coordinator.log", "dashboard.log", "worker-1.log", "worker-2.log"},
            {path.name for path in (self.folder / "data/logs").iterdir()},
        )

    def get(self, url):
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read().decode()

    def test_dashboard_shows_this_cluster_and_two_get_along(self):
        # Whatever coordinator the user talks to otherwise.
        os.environ["ESPALIER_SERVER"] = "elsewhere.invalid:1"
        os.environ["ESPALIER_TLS_DIR"] = "/nonexistent"
        self.addCleanup(os.environ.pop, "ESPALIER_SERVER")
        self.addCleanup(os.environ.pop, "ESPALIER_TLS_DIR")
        up, address, children = self.start(workers=1)
        first = self.dashboard
        self.assertIn(f"Dashboard:     {first}", up.errors())
        self.assertEqual(address, json.loads(self.get(first + "api/v1/session"))["server"])
        self.folder /= "other"
        self.folder.mkdir()
        other, other_address, _ = self.start(workers=1)
        self.assertNotEqual(first, self.dashboard)
        self.assertEqual(other_address, json.loads(self.get(self.dashboard + "api/v1/session"))["server"])
        # The dashboard is not the cluster.
        os.kill(next(pid for pid, name in descendants(up.pid).items() if name == "espalier"), signal.SIGKILL)
        eventually("up tells that the dashboard is gone", lambda: "dashboard ended" in up.errors())
        self.assertTrue(up.running())
        self.assertEqual(2, len(descendants(up.pid)))

    def test_no_dashboard_where_none_is_wanted(self):
        up = self.enterContext(
            Process(
                "espalier",
                ["up", "--workers", 1, "--port", 0, "--metrics-port", 0, "--no-dashboard", "--data-root",
                 cluster.DATA, "--data-dir", self.folder / "data"],
                self.folder / "up.log",
            )
        )  # fmt: skip
        self.assertNotIn("dashboard", up.line())
        self.assertEqual(["espalier-coordinator", "espalier-worker"], sorted(descendants(up.pid).values()))

    def data_root(self, files):
        return datasets.write_files(self.folder, "root", files)

    def test_says_once_why_data_sets_cannot_be_used(self):
        root = self.data_root(
            {
                "good/train": "",
                "good/train.csv": "1,2,0\n3,4,1\n",
                "notes/todo": "",
                "broken/d.csv": "a,b,c,d,kind\n1,high,3,4,0\n2,low,5,6,1\n",
                "wine.csv": "1,2,0\n",
                "README.md": "about these",
                "\x1b[31mred.csv": "1,2,0\n",
            }
        )
        (root / "Wine Data").mkdir()
        up, address, _ = self.start(workers=2, data_root=root)
        eventually("up tells what cannot be used", lambda: "wine.csv" in up.errors())
        said = up.errors()[up.errors().index("Not usable") :].splitlines()
        self.assertEqual(6, len(said), said)
        for line, words in zip(
            said,
            (
                ["Not usable as they are", "espalier init FOLDER"],
                ["?[31mred.csv", "make a folder '31mred'"],
                ["Wine Data", "rename the folder to 'wine-data'"],
                ["broken/d.csv, line 2, column 2 ('b')", "found 'high'", "data.words"],
                ["notes: ", "none of them among 'todo'"],
                ["wine.csv: ", "in the data root itself", "make a folder 'wine' there"],
            ),
        ):
            for word in words:
                self.assertIn(word, line)
        listed = espalier("dataset", "list", server=address).ok().out
        self.assertIn("make a folder 'wine' there", listed)
        # Those who name one in a job are told the same, and it is not offered in the place of another.
        job = self.folder / "job.yaml"
        for name, words in (
            ("wine.csv", ["make a folder 'wine' there"]),
            ("wine-data", ["worker offers (good)", "`espalier dataset list` says what is there"]),
        ):
            data = digits_job()["data"] | {"dataset": name}
            job.write_text(json.dumps(digits_job() | {"data": data}))
            text = " ".join(espalier("job", "submit", job, server=address).err.split())
            for word in words:
                self.assertIn(word, text)

    def test_many_that_cannot_be_used_are_counted(self):
        root = self.data_root({f"empty{i}/todo": "" for i in range(9)})
        up, _, _ = self.start(workers=1, data_root=root)
        eventually("up tells how many", lambda: "4 more: espalier dataset list" in up.errors())
        self.assertNotIn("empty5", up.errors())

    def test_an_empty_data_root_is_told(self):
        up, _, _ = self.start(workers=1, data_root=self.data_root({}))
        eventually("up tells", lambda: "There is no data set in" in up.errors())

    def test_many_loose_files_are_counted(self):
        root = self.data_root({"good/train": ""} | {f"loose{i:02d}.csv": "" for i in range(20)})
        up, address, _ = self.start(workers=1, data_root=root)
        eventually("up tells", lambda: "more: espalier dataset list" in up.errors())
        listed = espalier("dataset", "list", server=address).ok().out
        self.assertIn("12 more files and folders", listed)

    def test_terminated_with_a_job_in_work(self):
        up, address, children = self.start()
        job = self.folder / "job.yaml"
        job.write_text(json.dumps(digits_job(cluster.ENDLESS)))
        espalier("job", "submit", job, server=address).ok()
        up.send(signal.SIGTERM)
        self.assertIn(up.wait(10), (0, 130, 143))
        self.assertEqual([], alive(children))

    def test_killed_leaves_no_child(self):
        up, _, children = self.start()
        up.send(signal.SIGKILL)
        up.wait()
        eventually("all children are gone", lambda: not alive(children), seconds=5)

    def test_dead_worker_is_told_and_the_rest_goes_on(self):
        up, address, _ = self.start()
        worker = next(
            pid for pid, program in descendants(up.pid).items() if program == "espalier-worker"
        )
        os.kill(worker, signal.SIGKILL)
        eventually("up tells", lambda: re.search(r"worker-\d ended", up.errors()))
        self.assertTrue(up.running())
        job = self.folder / "job.yaml"
        job.write_text(json.dumps(digits_job()))
        espalier("job", "submit", job, "--wait", server=address).ok()

    def test_dead_coordinator_ends_it(self):
        up, _, children = self.start()
        [coordinator] = [
            pid for pid, program in descendants(up.pid).items() if program == "espalier-coordinator"
        ]
        os.kill(coordinator, signal.SIGKILL)
        self.assertEqual(6, up.wait())
        self.assertIn("coordinator ended", up.errors())
        self.assertEqual([], alive(children))


class DemoTest(unittest.TestCase):
    def setUp(self):
        self.temporary = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.logs = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.arguments = ["demo", "--workers", DEMO_WORKERS, "--data-root", cluster.DATA]

    def start(self):
        return self.enterContext(
            Process(
                "espalier",
                self.arguments,
                self.logs / "demo.log",
                env=os.environ | {"TMPDIR": str(self.temporary)},
            )
        )

    def test_whole(self):
        demo = espalier(*self.arguments, TMPDIR=str(self.temporary), seconds=120).ok()
        self.assertEqual([], list(self.temporary.iterdir()))
        shown = demo.out
        for words in (
            r"round +loss +accuracy +loss +accuracy",
            r"after \d+ rounds +SET, sparse +dense twin",
            r"weights of the layers +28700 +287000 +10\.0×",
            r"density +0\.1 +1\n",
            r"bytes on the wire",
        ):
            self.assertRegex(shown, words)
        accuracy = re.search(r"test accuracy, best round +([\d.]+) % +([\d.]+) %", shown)
        sparse, dense = map(float, accuracy.groups())
        self.assertGreaterEqual(sparse, 95)
        self.assertGreaterEqual(dense, 95)
        self.assertRegex(shown, r"weights. memory, a worker +574 kB +2\.3 MB +4\.0×")
        self.assertRegex(shown, r"a worker process took \d+ MB at most")
        self.assertNotIn("\x1b", shown)
        self.assertNotIn("\r", shown)
        self.assertEqual([], [line for line in shown.splitlines() if len(line) > 80])

    def on_terminal(self, **options):
        return self.enterContext(Terminal(*self.arguments, TMPDIR=str(self.temporary), **options))

    # Up to the first of the ten live lines, which is emptied.
    NEXT_FRAME = "\x1b[9A\r\x1b[K"

    def test_terminal_shows_both_jobs_in_place(self):
        demo = self.on_terminal()
        demo.read_until(r"round +3\d of 100")
        shown = demo.screen_before(self.NEXT_FRAME)
        lines = shown.splitlines()
        self.assertLess(len(lines), 24)
        self.assertTrue(all(len(line) < 80 for line in lines))
        live = shown[shown.index("training ") :]
        for words in (
            r"training +SET, sparse +dense twin\n",
            r"  round +\d+ of 100 +\d+ of 100\n +━+·+ ━*·+\n",
            r"loss +0\.\d{4} +0\.\d{4}\n",
            r"test accuracy +\d\d\.\d % +\d\d\.\d %\n",
        ):
            self.assertRegex(live, words)
        demo.read_until(r"Press Enter to end", 120)
        page = re.search(r"The dashboard shows both jobs: (http://127.0.0.1:\d+/)", demo.raw).group(1)
        with urllib.request.urlopen(page + "api/v1/jobs", timeout=10) as answer:
            self.assertEqual(["SUCCEEDED"] * 2, [job["state"] for job in json.load(answer)["jobs"]])
        demo.press_enter()
        self.assertEqual(0, demo.read_to_end(), demo.screen)
        self.assertEqual(200, demo.raw.count(self.NEXT_FRAME))
        end = demo.screen
        self.assertRegex(end, r"\n  after 100 rounds +SET, sparse +dense twin +less\n")
        self.assertNotRegex(end, r"training +SET, sparse|time left")
        self.assertEqual(demo.modes, demo.modes_now())
        self.assertEqual([], list(self.temporary.iterdir()))

    def test_terminal_is_usable_after_ctrl_c(self):
        demo = self.on_terminal()
        demo.read_until(r"round +5 of 100")
        demo.press_ctrl_c()
        self.assertEqual(130, demo.read_to_end(), demo.raw)
        last = demo.raw.rstrip().rsplit("\n", 1)[-1]
        self.assertEqual("interrupted; the coordinator, its workers and their files are gone", last)
        # Neither a hidden cursor nor another screen is there to be restored.
        self.assertNotIn("\x1b[?", demo.raw)
        self.assertEqual(demo.modes, demo.modes_now())
        self.assertEqual([], list(self.temporary.iterdir()))

    def test_dumb_terminal_gets_plain_lines(self):
        demo = self.on_terminal(TERM="dumb")
        demo.read_until(r"\n +1 +[\d.]+ +[\d.]+ %")
        self.assertNotIn("\x1b", demo.raw)

    def check_interrupted(self, number, codes):
        demo = self.start()
        end = "never"
        while not re.match(r" +1 +[\d.]+ +[\d.]+ %", end):
            end = demo.line()
        children = list(descendants(demo.pid))
        self.assertEqual(2 + DEMO_WORKERS, len(children))
        demo.send(number)
        self.assertIn(demo.wait(10), codes)
        eventually("all children are gone", lambda: not alive(children), seconds=5)

    def test_interrupted(self):
        self.check_interrupted(signal.SIGINT, (130,))
        self.assertEqual([], list(self.temporary.iterdir()))

    def test_terminated(self):
        self.check_interrupted(signal.SIGTERM, (130, 143))
        self.assertEqual([], list(self.temporary.iterdir()))

    def test_killed(self):
        self.check_interrupted(signal.SIGKILL, (-signal.SIGKILL,))

    def test_without_the_digits(self):
        empty = self.temporary / "empty"
        empty.mkdir()
        demo = espalier("demo", "--data-root", empty, "-o", "json", TMPDIR=str(self.temporary))
        self.assertNotEqual(0, demo.code)
        self.assertIn("digits", demo.err)
        self.assertEqual([empty], list(self.temporary.iterdir()))


if __name__ == "__main__":
    unittest.main()
