"""`espalier dashboard`: its page, its API, its streams and actions, and who may use them."""

import hashlib
import json
import os
import pathlib
import signal
import socket
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "secure"))

from served import Served, quoted

import cluster
from cluster import ENDLESS, SOURCE, digits_job, espalier, eventually
from security import Secured

TCP = pathlib.Path("/proc/net/tcp")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


class ServerTest(unittest.TestCase):
    """A cluster with one job that has succeeded, and an open dashboard."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=1))
        cls.served = cls.enterClassContext(Served(cls.cluster.address, cls.folder / "dashboard.log"))
        cls.job = cls.cluster.run(digits_job(3), "--name", "done")

    def printed(self, *arguments):
        return self.cluster.cli(*arguments, "-o", "json").ok().json

    def endless(self, name):
        self.cluster.submit(digits_job(ENDLESS), "--name", name)
        self.addCleanup(self.cluster.cli, "job", "cancel", name)
        return name


class PageTest(ServerTest):
    def test_every_view_is_the_page(self):
        page = self.served.request("GET", "/").ok()
        self.assertIn(b"<", page.body)
        for path in ("/jobs", "/jobs/done/rounds/3", "/compare?jobs=a,b"):
            self.assertEqual(page.body, self.served.request("GET", path).ok().body, path)
        self.assertEqual("no-cache", page.headers["Cache-Control"])
        again = self.served.request("GET", "/", If_None_Match=page.headers["ETag"])
        self.assertEqual((304, b""), (again.status, again.body))
        head = self.served.request("HEAD", "/")
        self.assertEqual((200, b""), (head.status, head.body))

    def test_every_reply_is_guarded(self):
        replies = [
            self.served.request("GET", "/"),
            self.served.request("GET", "/nothing.js"),
            self.served.get("jobs"),
            self.served.get("nothing"),
            self.served.get("jobs", Host="evil.example"),
            self.served.get("%zz"),
            self.served.request("PUT", "/"),
            self.served.post("jobs/done/pause", token="wrong"),
        ]
        self.assertEqual([200, 404, 200, 404, 421, 400, 405, 403], [reply.status for reply in replies])
        for reply in replies:
            self.assertEqual(CSP, reply.headers["Content-Security-Policy"])
            self.assertEqual("nosniff", reply.headers["X-Content-Type-Options"])
            self.assertEqual("no-referrer", reply.headers["Referrer-Policy"])
            self.assertEqual("same-origin", reply.headers["Cross-Origin-Opener-Policy"])
            self.assertEqual("same-origin", reply.headers["Cross-Origin-Resource-Policy"])
            self.assertNotIn("Access-Control-Allow-Origin", reply.headers)

    def test_names_of_others_are_not_ours(self):
        for host in ("evil.example", f"evil.example:{self.served.port}", "127.0.0.1", "127.0.0.1:1"):
            self.assertEqual((421, "HOST_UNKNOWN"), self.served.get("jobs", Host=host).error, host)
            self.assertEqual(421, self.served.request("GET", "/", Host=host).status)
        self.served.get("jobs", Host=f"localhost:{self.served.port}").ok()
        log = self.folder / "proxied.log"
        with Served(self.cluster.address, log, "--allow-host", "train.example.org") as proxied:
            for host in ("train.example.org", "train.example.org:8443", proxied.address):
                proxied.get("jobs", Host=host).ok()
            self.assertEqual(421, proxied.get("jobs", Host="evil.example").status)
            token = proxied.session["csrf_token"]
            answer = proxied.post(
                "workers/w1/undrain", token=token, Host="train.example.org", Origin="https://train.example.org"
            )
            self.assertEqual(200, answer.status, answer.body)

    def test_only_this_machine_unless_it_is_said(self):
        refused = self.cluster.cli("dashboard", "--listen", "0.0.0.0:0", "-o", "json")
        self.assertEqual((2, "LISTEN_EXPOSED"), (refused.code, refused.error["reason"]))
        self.assertIn("--expose", refused.err)
        with Served(self.cluster.address, self.folder / "exposed.log", "--expose", listen="0.0.0.0:0") as served:
            served.host = "127.0.0.1"
            served.get("jobs", Host=f"127.0.0.1:{served.port}").ok()
            self.assertEqual(421, served.get("jobs", Host=f"evil.example:{served.port}").status)

    def test_a_port_in_use_is_said_and_the_next_one_taken_where_that_is_wanted(self):
        taken = self.cluster.cli("dashboard", "--listen", self.served.address, "-o", "json")
        self.assertEqual("PORT_IN_USE", taken.error["reason"])
        log = self.folder / "next.log"
        with Served(self.cluster.address, log, "--next-port", listen=self.served.address) as served:
            self.assertLess(self.served.port, served.port)
            self.assertLessEqual(served.port, self.served.port + 20)

    def test_health_is_asked_of_whom_it_concerns(self):
        self.assertEqual(0, self.cluster.cli("dashboard", "--health-check", "--listen", self.served.address).code)
        away = self.cluster.cli("dashboard", "--health-check", "--listen", "127.0.0.1:1", "-o", "json")
        self.assertEqual((6, "NOT_SERVING"), (away.code, away.error["reason"]))

    def test_ends_at_once_with_streams_open(self):
        with Served(self.cluster.address, self.folder / "ended.log") as served:
            with served.stream(f"jobs/{self.endless('while-it-ends')}/events") as stream:
                stream.until("event")
                begin = time.monotonic()
                served.send(signal.SIGTERM)
                self.assertEqual(0, served.wait())
                self.assertLess(time.monotonic() - begin, 5)


class ApiTest(ServerTest):
    def test_answers_are_those_of_the_command_line(self):
        for path, arguments in (
            ("jobs/done", ("job", "get", "done")),
            ("jobs/done/rounds", ("job", "rounds", "done")),
            ("jobs/done/rounds?max_points=2", ("job", "rounds", "done", "--points", "2")),
            ("jobs/done/checkpoints", ("checkpoint", "list", "--job", "done")),
            ("methods", ("method", "list")),
            ("methods/set", ("method", "describe", "set")),
        ):
            self.assertEqual(self.printed(*arguments), self.served.get(path).ok().json, path)
        self.assertEqual("w1", self.served.get("workers").json["workers"][0]["name"].removeprefix("workers/"))
        self.assertEqual(1, self.served.get("cluster").json["workers_active"])

    def test_lists_of_jobs_are_narrowed_and_paged(self):
        for name in ("page-a", "page-b", "page-c"):
            self.cluster.run(digits_job(1), "--name", name)
        first = self.served.get("jobs?contains=PAGE-&order=NAME&page_size=2&state=SUCCEEDED").ok().json
        self.assertEqual(["jobs/page-a", "jobs/page-b"], [job["name"] for job in first["jobs"]])
        token = quoted(first["next_page_token"])
        second = self.served.get(f"jobs?contains=PAGE-&order=NAME&page_size=2&state=SUCCEEDED&page_token={token}").json
        self.assertEqual(["jobs/page-c"], [job["name"] for job in second["jobs"]])
        self.assertEqual("", second["next_page_token"])
        self.assertEqual([], self.served.get("jobs?state=PAUSED").ok().json["jobs"])

    def test_errors_are_sentences_with_a_reason(self):
        for path, expected in (
            ("jobs/none", (404, "JOB_NOT_FOUND")),
            ("jobs/none/events", (404, "JOB_NOT_FOUND")),
            ("jobs/none/rounds", (404, "JOB_NOT_FOUND")),
            ("checkpoints/none-1", (404, "CHECKPOINT_NOT_FOUND")),
            ("checkpoints/none-1/file", (404, "CHECKPOINT_NOT_FOUND")),
            ("methods/none", (404, "METHOD_NOT_FOUND")),
            ("jobs?state=sleeping", (400, "PARAMETER_INVALID")),
            ("jobs?page_size=-1", (400, "PARAMETER_INVALID")),
            ("jobs/done/rounds?max_points=0", (400, "PARAMETER_INVALID")),
            ("jobs/done/events?after=x", (400, "PARAMETER_INVALID")),
            ("nothing", (404, "PATH_NOT_FOUND")),
        ):
            answer = self.served.get(path)
            self.assertEqual(expected, answer.error, path)
            self.assertGreater(len(answer.json["error"]["message"]), 20)
        other = self.served.request("DELETE", "/api/v1/jobs/done")
        self.assertEqual((405, "GET"), (other.status, other.headers["Allow"]))

    def test_a_checkpoint_is_downloaded_whole(self):
        checkpoint = self.served.get("jobs/done/checkpoints").json["checkpoints"][0]
        name = checkpoint["name"].removeprefix("checkpoints/")
        self.assertEqual(checkpoint, self.served.get(f"checkpoints/{name}").json)
        file = self.served.get(f"checkpoints/{name}/file").ok()
        self.assertEqual(checkpoint["sha256"], hashlib.sha256(file.body).hexdigest())
        self.assertEqual(f'attachment; filename="{name}.safetensors"', file.headers["Content-Disposition"])
        self.assertEqual(str(checkpoint["size_bytes"]), file.headers["Content-Length"])

    def test_an_open_cluster_lets_everybody_do_everything(self):
        session = self.served.session
        self.assertEqual("OPEN", session["identity"]["source"])
        self.assertEqual({"submit": True, "control": True, "drain": True}, session["may"])
        self.assertEqual(self.cluster.address, session["server"])


class StreamTest(ServerTest):
    def test_an_ended_job_is_told_from_its_first_event_to_its_end(self):
        with self.served.stream("jobs/done/events") as stream:
            self.assertEqual("text/event-stream", stream.headers["Content-Type"])
            events = stream.until("end")
            self.assertIsNone(stream.next())
        told = [data for name, data, _ in events if name == "event"]
        self.assertEqual(self.cluster.events("done"), told)
        self.assertEqual([str(event["sequence"]) for event in told], [i for name, _, i in events if name == "event"])
        self.assertEqual(["caught-up", "end"], [name for name, *_ in events[-2:]])

    def test_a_reader_goes_on_after_what_it_has_seen(self):
        whole = self.cluster.events("done")
        for path, headers in (("?after=3", {}), ("", {"Last_Event_ID": "3"}), ("?after=1", {"Last_Event_ID": "3"})):
            with self.served.stream("jobs/done/events" + path, **headers) as stream:
                told = [data for name, data, _ in stream.until("end") if name == "event"]
            self.assertEqual(whole[3:], told)

    def test_a_running_job_is_told_as_it_happens(self):
        name = self.endless("live")
        with self.served.stream(f"jobs/{name}/events") as stream:
            stream.until("caught-up")
            stream.until(lambda event: event[0] == "event" and "round_committed" in event[1])
            self.cluster.cli("job", "pause", name).ok()
            stream.until(lambda event: event[1].get("state_changed", {}).get("state") == "PAUSED")
            # A silent stream says that it is there.
            self.assertEqual(None, stream.until(lambda event: event[0] is None)[-1][0])
            self.cluster.cli("job", "cancel", name).ok()
            self.assertEqual("CANCELLED", stream.until("end")[-2][1]["state_changed"]["state"])

    def test_a_job_that_is_deleted_ends_its_stream(self):
        name = self.endless("deleted")
        with self.served.stream(f"jobs/{name}/events") as stream:
            stream.until("caught-up")
            self.cluster.cli("job", "pause", name).ok()
            self.cluster.cli("job", "delete", name).ok()
            self.assertIn(stream.until(lambda event: event[0] in ("gone", "end"))[-1][0], ("gone", "end"))
            self.assertIsNone(stream.next())
        self.assertEqual((404, "JOB_NOT_FOUND"), self.served.get(f"jobs/{name}/events").error)

    def test_all_jobs_and_workers_are_told_as_they_change(self):
        jobs = self.enterContext(self.served.stream("watch/jobs"))
        told = jobs.until("caught-up")
        listed = {job["name"]: job for job in self.served.get("jobs").json["jobs"]}
        done = next(data for name, data, _ in told if name == "job" and data["name"] == "jobs/done")
        self.assertEqual(listed["jobs/done"], done)
        self.cluster.submit(digits_job(1), "--name", "told")
        is_told = lambda event: event[0] == "job" and event[1]["name"] == "jobs/told"
        jobs.until(lambda event: is_told(event) and event[1]["state"] == "SUCCEEDED")
        self.cluster.cli("job", "delete", "told", "--checkpoints").ok()
        self.assertEqual({"name": "jobs/told"}, jobs.until("gone")[-1][1])
        workers = self.enterContext(self.served.stream("watch/workers"))
        self.assertIn("workers/w1", [data["name"] for name, data, _ in workers.until("caught-up") if name == "worker"])
        self.cluster.cli("worker", "drain", "w1").ok()
        self.addCleanup(self.cluster.cli, "worker", "undrain", "w1")
        workers.until(lambda event: event[0] == "worker" and event[1]["state"] == "DRAINING")

    def test_browsers_that_go_free_what_they_had(self):
        name = self.endless("crowded")
        # What a first stream brings with it stays.
        with self.served.stream(f"jobs/{name}/events") as stream:
            stream.until("event")
        before = descriptors(self.served.pid)
        streams = [self.served.stream(f"jobs/{name}/events") for _ in range(50)]
        for stream in streams:
            stream.until("event")
        self.assertGreaterEqual(descriptors(self.served.pid), before + 40)
        for stream in streams:
            stream.close()
        eventually("descriptors are free", lambda: descriptors(self.served.pid) <= before + 5)

    def test_a_reader_that_takes_nothing_is_ended(self):
        name = self.endless("unread")
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect((self.served.host, self.served.port))
            lazy.sendall(f"GET /api/v1/jobs/{name}/events HTTP/1.1\r\nHost: {self.served.address}\r\n\r\n".encode())
            own = ":%04X" % lazy.getsockname()[1]
            # The server's side of it, established.
            rows = lambda: (line.split() for line in TCP.read_text().splitlines()[1:])
            connected = lambda: any(row[2].endswith(own) and row[3] == "01" for row in rows())
            eventually("the connection is there", connected)
            # Once what the kernel holds for it is full, and 30 s later.
            eventually("the connection is ended", lambda: not connected(), 150)
        # What is kept for one job is bounded, however much of it was not read.
        status = pathlib.Path(f"/proc/{self.served.pid}/status").read_text()
        self.assertLess(int(status.split("VmRSS:")[1].split()[0]), 200_000)

    def test_streams_and_calls_get_along(self):
        name = self.endless("beside")
        streams = [self.served.stream(f"jobs/{name}/events") for _ in range(200)]
        try:
            for stream in streams:
                stream.until("event")
            self.served.get("jobs").ok()
            self.assertLess(threads(self.served.pid), 100)
        finally:
            for stream in streams:
                stream.close()


class AwayTest(unittest.TestCase):
    def test_a_coordinator_that_is_killed_and_comes_back(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        with cluster.Cluster(workers=1) as own:
            own.submit(digits_job(ENDLESS), "--name", "lasting")
            served = self.enterContext(Served(own.address, folder / "log", options=("--timeout", "5s")))
            stream = self.enterContext(served.stream("jobs/lasting/events"))
            before = stream.until(lambda event: event[0] == "event" and "round_committed" in event[1])
            own.coordinator.send(signal.SIGKILL)
            own.coordinator.wait()
            before += stream.until("disconnected")
            lost = before[-1][1]
            self.assertIn(own.address, lost["message"])
            self.assertRegex(lost["since"], r"^20.*Z$")
            # The page is there all the same, and calls say what is the matter.
            served.request("GET", "/jobs").ok()
            self.assertEqual((503, "COORDINATOR_UNREACHABLE"), served.get("jobs").error)
            self.assertEqual(503, served.get("session").status)
            # A stream that begins now waits for the coordinator.
            late = self.enterContext(served.stream("jobs/lasting/events"))
            self.assertEqual("disconnected", late.next()[0])
            all_jobs = self.enterContext(served.stream("watch/jobs"))
            self.assertEqual("disconnected", all_jobs.next()[0])
            self.enterContext(own.new_coordinator(own.data_dir, "--listen", own.address))
            before += stream.until("connected")
            after = stream.until(lambda event: event[0] == "event" and "round_committed" in event[1])
            late.until("connected")
            late.until(lambda event: event[0] == "event" and "round_committed" in event[1])
            self.assertIn("jobs/lasting", [data.get("name") for _, data, _ in all_jobs.until("caught-up") if data])
            # Nothing was told twice, and nothing is missing.
            numbers = [data["sequence"] for name, data, _ in before + after if name == "event"]
            self.assertEqual(list(range(numbers[0], numbers[0] + len(numbers))), numbers)
            served.get("jobs/lasting").ok()

    def test_the_page_comes_without_any_coordinator(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        served = self.enterContext(Served("127.0.0.1:1", folder / "log"))
        served.request("GET", "/").ok()
        answer = served.get("jobs")
        self.assertEqual((503, "COORDINATOR_UNREACHABLE"), answer.error)
        self.assertIn("espalier up", answer.json["error"]["message"])


class ActionTest(ServerTest):
    def test_a_job_is_checked_submitted_and_controlled(self):
        text = json.dumps(digits_job(ENDLESS))
        checked = self.served.post("jobs", {"file": text, "validate_only": True}).ok().json
        self.assertEqual("", checked["name"])
        created = self.served.post("jobs", {"file": text, "job_id": "by-page"}).ok().json
        self.addCleanup(self.cluster.cli, "job", "cancel", "by-page")
        self.assertEqual("jobs/by-page", created["name"])
        self.cluster.wait_round("by-page", 1)
        self.assertEqual("PAUSED", self.served.post("jobs/by-page/pause").ok().json["state"])
        again = self.served.post("jobs/by-page/pause")
        self.assertEqual(409, again.status)
        self.served.post("jobs/by-page/resume").ok()
        self.served.post("jobs/by-page/cancel").ok()
        self.cluster.wait_state("by-page", "CANCELLED")
        self.assertEqual(409, self.served.post("jobs/by-page/retry").status)
        self.assertEqual((409, "JOB_EXISTS"), self.served.post("jobs", {"file": text, "job_id": "by-page"}).error)

    def test_mistakes_of_a_job_file_have_their_lines(self):
        text = (SOURCE / "docs/examples/digits-set.yaml").read_text().replace("rounds: 100", "rounds: 0")
        answer = self.served.post("jobs", {"file": text})
        self.assertEqual((400, "JOB_FILE_INVALID"), answer.error)
        (violation,) = answer.json["error"]["violations"]
        self.assertEqual("federation.rounds", violation["field"])
        self.assertRegex(violation["message"], r"^line \d+: ")
        self.assertEqual((400, "JOB_FILE_INVALID"), self.served.post("jobs", {"file": "- no\n- map\n"}).error)

    def test_workers_are_drained(self):
        self.assertEqual("DRAINING", self.served.post("workers/w1/drain").ok().json["state"])
        self.assertEqual("ACTIVE", self.served.post("workers/w1/undrain").ok().json["state"])
        self.assertEqual(404, self.served.post("workers/w9/drain").status)

    def test_only_the_page_itself_acts(self):
        for headers in (
            {"token": "wrong"},
            {"X_Espalier_CSRF": None},
            {"Origin": None},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
            {"Content_Type": "text/plain"},
        ):
            answer = self.served.post("workers/w1/drain", **headers)
            self.assertEqual(403, answer.status, headers)
        self.assertEqual(403, self.served.get("jobs", Sec_Fetch_Site="cross-site").status)
        self.assertEqual("ACTIVE", self.served.get("workers").json["workers"][0]["state"])
        self.assertEqual(405, self.served.request("GET", "/api/v1/workers/w1/drain").status)

    def test_bodies_are_what_they_should_be(self):
        token = self.served.session["csrf_token"]
        for path, body, reason in (
            ("jobs", {}, "BODY_INVALID"),
            ("jobs", {"file": 3}, "BODY_INVALID"),
            ("jobs", {"file": "a: 1", "force": True}, "BODY_INVALID"),
            ("jobs/done/pause", {"force": True}, "BODY_INVALID"),
            ("jobs/done/recommend", {"k": "many"}, "BODY_INVALID"),
            ("jobs/done/recommend", {"checkpoint": "checkpoints/other-1"}, "CHECKPOINT_OF_ANOTHER_JOB"),
        ):
            self.assertEqual((400, reason), self.served.post(path, body, token=token).error, (path, body))
        large = self.served.post("jobs", {"file": "x" * (1 << 20)}, token=token)
        self.assertEqual(413, large.status)


class HostileTest(ServerTest):
    def tearDown(self):
        # Whatever was sent, it serves.
        self.served.get("jobs").ok()
        self.assertTrue(self.served.running())

    def status(self, data, **options):
        """The status of the answer to bytes; 0 when the connection was closed without one."""
        answer = self.served.raw(data, **options)
        return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0

    def line(self, target, headers=b""):
        host = f"Host: {self.served.address}\r\n".encode()
        return b"GET " + target + b" HTTP/1.1\r\n" + host + b"Connection: close\r\n" + headers + b"\r\n"

    def test_targets_that_mean_nothing(self):
        for target in (
            b"/%", b"/%0", b"/%zz", b"/%00", b"/%ff", b"/%c3%28", b"/a%0d%0aX:y", b"/..%2f..%2fetc%2fpasswd",
            b"/assets/../../../etc/passwd", b"/assets/%2e%2e/%2e%2e/etc/passwd", b"/assets/..%5c..%5cx",
            b"/api/v1/jobs/a%2fb", b"/?a=%", b"http://evil.example/", b"*",
        ):  # fmt: skip
            self.assertEqual(400, self.status(self.line(target)), target)
        for target in (b"/assets/nothing.js", b"/etc/passwd.txt", b"//etc//passwd.txt", b"/.git/config"):
            self.assertEqual(404, self.status(self.line(target)), target)

    def test_heads_that_are_too_large_or_no_http(self):
        long = b"/" + b"a" * 100_000
        flood = b"".join(b"X-%d: y\r\n" % i for i in range(20_000))
        for data in (
            self.line(long), self.line(b"/", flood), self.line(b"/", b"X: " + b"y" * 100_000 + b"\r\n"),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /\r\n\r\n", b"\r\n" * 1000, b"\0" * 1000, b"GET / HTTP/9.9\r\n\r\n",
        ):  # fmt: skip
            status = self.status(data, half_close=True)
            self.assertTrue(status == 0 or 400 <= status < 600, (data[:40], status))

    def test_headers_that_others_would_trust(self):
        host = f"127.0.0.1:{self.served.port}".encode()
        twice = b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        self.assertIn(self.status(twice), (400, 421))
        self.assertIn(self.status(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"), (400, 421))
        self.assertEqual(421, self.status(b"GET / HTTP/1.0\r\n\r\n"))

    def test_bodies_that_are_too_large_or_never_end(self):
        session = self.served.session
        head = (
            f"POST /api/v1/jobs HTTP/1.1\r\nHost: {self.served.address}\r\nOrigin: http://{self.served.address}\r\n"
            f"X-Espalier-CSRF: {session['csrf_token']}\r\nContent-Type: application/json\r\n"
        ).encode()
        self.assertEqual(413, self.status(head + b"Content-Length: 99999999999\r\n\r\n"))
        self.assertIn(self.status(head + b"Content-Length: -1\r\n\r\n"), (0, 400))
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
        block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        self.assertIn(self.status(chunked + block * 40 + b"0\r\n\r\n"), (0, 413))
        self.assertIn(self.status(chunked + block * 400), (0, 413))
        self.assertIn(self.status(chunked + b"zz\r\n\r\n"), (0, 400))

    def test_connections_that_say_nothing_keep_nobody_out(self):
        idle = []
        try:
            for _ in range(1100):
                idle.append(socket.create_connection((self.served.host, self.served.port), timeout=10))
            self.served.get("jobs").ok()
            # A bound on memory, and not the machine's.
            eventually("the oldest are ended", lambda: descriptors(self.served.pid) < 1100)
        finally:
            for connection in idle:
                connection.close()

    def test_many_that_come_and_go(self):
        for _ in range(300):
            self.served.raw(self.line(b"/api/v1/jobs")[:20], seconds=0.01)
        for _ in range(100):
            self.served.raw(self.line(b"/api/v1/jobs/done/events"), seconds=0.01)
        eventually("descriptors are free", lambda: descriptors(self.served.pid) < 100)


class SecuredTest(unittest.TestCase):
    """With TLS, and one dashboard for each role."""

    @classmethod
    def setUpClass(cls):
        cls.secured = cls.enterClassContext(Secured())
        cls.admin = cls.secured.certificates / "admin"
        cls.by_role = {"admin": cls.admin}
        for role in ("viewer", "submitter"):
            cls.by_role[role] = cls.secured.issue(f"ada-{role}", role)
        job = cls.secured.folder / "job.json"
        job.write_text(json.dumps(digits_job(1)))
        cls.as_admin("job", "submit", job, "--name", "of-admin").ok()

    @classmethod
    def as_admin(cls, *arguments):
        return espalier("--tls-dir", cls.admin, *arguments, "-o", "json", server=cls.secured.address)

    def served(self, role):
        return self.enterContext(
            Served(
                self.secured.address, self.secured.folder / f"{role}.log", options=("--tls-dir", self.by_role[role])
            )
        )

    def test_each_role_may_what_it_may(self):
        for role, may in (
            ("admin", {"submit": True, "control": True, "drain": True}),
            ("submitter", {"submit": True, "control": True, "drain": False}),
            ("viewer", {"submit": False, "control": False, "drain": False}),
        ):
            session = self.served(role).session
            self.assertEqual(role.upper(), session["identity"]["role"])
            self.assertEqual(may, session["may"], role)

    def test_a_viewer_sees_and_changes_nothing(self):
        served = self.served("viewer")
        self.assertIn("jobs/of-admin", [job["name"] for job in served.get("jobs").ok().json["jobs"]])
        with served.stream("jobs/of-admin/events") as stream:
            stream.until("caught-up")
        for path, body in (
            ("jobs", {"file": json.dumps(digits_job(1))}),
            ("jobs/of-admin/cancel", {}),
            ("workers/w1/drain", {}),
        ):
            self.assertEqual((403, "ROLE_NOT_ALLOWED"), served.post(path, body).error, path)
        self.assertNotEqual("CANCELLED", served.get("jobs/of-admin").json["state"])

    def test_a_submitter_sees_its_own_jobs_alone(self):
        served = self.served("submitter")
        self.assertEqual([], served.get("jobs").ok().json["jobs"])
        self.assertEqual((404, "JOB_NOT_FOUND"), served.get("jobs/of-admin/events").error)
        created = served.post("jobs", {"file": json.dumps(digits_job(1)), "job_id": "of-submitter"}).ok().json
        self.assertEqual("ada-submitter", created["owner"])

    def test_who_is_not_known_is_told_so(self):
        served = self.enterContext(
            Served(self.secured.address, self.secured.folder / "nobody.log", options=("--ca", self.secured.trust()))
        )
        served.request("GET", "/").ok()
        answer = served.get("session")
        self.assertEqual((401, "CREDENTIALS_MISSING"), answer.error)
        self.assertEqual(401, served.get("jobs/of-admin/events").status)


if __name__ == "__main__":
    unittest.main()
