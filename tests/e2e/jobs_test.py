"""The life of jobs through the command line: submit, list, get, watch, cancel, and around them."""

import json
import os
import subprocess
import unittest

import cluster
from cluster import ENDLESS, digits_job, eventually, example


class JobsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2))

    def test_finished_job_tells_what_happened(self):
        job = self.cluster.run(*example("digits-set", 3), "--name", "told")
        self.assertEqual("jobs/told", job["name"])
        self.assertEqual("SUCCEEDED", job["state"])
        self.assertEqual(3, job["round"])
        self.assertEqual([1, 2, 3], [summary["round"] for summary in job["history"]])
        for summary in job["history"]:
            self.assertEqual(3, int(summary["participants"]))
            self.assertEqual(1437, int(summary["examples"]))
            self.assertAlmostEqual(0.1, summary["density"], delta=0.001)
            self.assertEqual(
                round(summary["density"] * (64 * 500 + 500 * 500 + 500 * 10)),
                int(summary["active_weights"]),
            )
            self.assertLess(
                int(summary["bytes_sent"]) + int(summary["bytes_received"]),
                0.2 * int(summary["dense_bytes"]),
            )
            self.assertGreater(int(summary["worker_peak_memory_bytes"]), 1_000_000)
        self.assertLess(job["history"][2]["train_loss"], job["history"][0]["train_loss"])
        self.assertGreater(job["best_metric"], 0.7)
        self.assertEqual(max(s["test_accuracy"] for s in job["history"]), job["best_metric"])
        self.assertEqual("checkpoints/told-3", job["latest_checkpoint"])
        self.assertRegex(job["model_hash"], "^[0-9a-f]{64}$")
        self.assertEqual(28700 + 1010, int(job["stored_parameters"]))
        self.assertEqual(287000 + 1010, int(job["dense_parameters"]))
        self.assertLessEqual(job["create_time"], job["start_time"])
        self.assertLess(job["start_time"], job["end_time"])

    def test_get_and_list_show_the_same_job(self):
        done = self.cluster.run(digits_job(), "--name", "listed")
        self.assertEqual(done, self.cluster.job("listed"))
        self.assertEqual(done, self.cluster.job("jobs/listed"))
        listed = self.cluster.cli("job", "list", "-o", "json").ok().json["jobs"]
        [same] = [job for job in listed if job["name"] == "jobs/listed"]
        self.assertEqual(list(map(str, range(10))), done["confusion"]["classes"])
        self.assertEqual(360, sum(done["confusion"]["counts"]))
        del done["confusion"]
        self.assertEqual(done | {"history": []}, same | {"history": []})
        lines = self.cluster.cli("job", "list").ok().out.splitlines()
        [line] = [line for line in lines if line.startswith("jobs/listed\t")]
        self.assertEqual(["SUCCEEDED", "3/3", "set"], line.split("\t")[1:4])
        newest = self.cluster.cli("job", "list", "--limit", "1").ok().out.splitlines()
        self.assertEqual(lines[:1], newest)

    def test_get_as_text_and_yaml(self):
        self.cluster.run(digits_job(1), "--name", "texts")
        fields = dict(
            line.split("\t", 1)
            for line in self.cluster.cli("job", "get", "texts").ok().out.split("\n\n")[0].splitlines()
        )
        self.assertEqual(
            ("jobs/texts", "SUCCEEDED", "1 of 1"), (fields["job"], fields["state"], fields["round"])
        )
        self.assertIn(
            'name: "jobs/texts"\n', self.cluster.cli("job", "get", "texts", "-o", "yaml").ok().out
        )

    def test_spec_is_a_job_file_again(self):
        done = self.cluster.run(*example("digits-rigl", 2), "--name", "original")
        checked = self.cluster.cli(
            "job", "submit", *example("digits-rigl", 2), "--dry-run", "-o", "json"
        ).ok()
        texts = {"the job": json.dumps(done["spec"]), "--dry-run": json.dumps(checked.json["spec"])}
        for arguments in ([], ["-o", "yaml"], ["-o", "json"]):
            spec = self.cluster.cli("job", "get", "original", "--spec", *arguments).ok()
            texts[f"--spec {arguments}"] = spec.out
        for name, text in texts.items():
            with self.subTest(name):
                again = self.cluster.cli(
                    "job", "submit", "-", "--wait", "-o", "json", stdin=text
                ).ok()
                self.assertEqual(done["spec"], again.json["spec"])
                self.assertEqual(done["model_hash"], again.json["model_hash"])

    def test_watch_writes_a_plain_line_per_round(self):
        watched = self.cluster.cli(
            "job", "submit", self.cluster.file(digits_job()), "--watch", "--name", "plain"
        ).ok()
        rounds = [line for line in watched.err.splitlines() if " round " in line]
        self.assertEqual(3, len(rounds))
        for number, line in enumerate(rounds, 1):
            self.assertRegex(
                line, f"^jobs/plain  round {number} of 3  loss .*accuracy .*density .*bytes saved"
            )
        self.assertNotIn("\x1b", watched.err)
        self.assertNotIn("\r", watched.err)
        self.assertIn("state\tSUCCEEDED", watched.out)

    def test_watch_on_a_terminal_keeps_one_line_alive(self):
        self.cluster.run(digits_job(), "--name", "terminal")
        watch = "espalier --server {} job watch terminal".format(self.cluster.address)
        shown = subprocess.run(
            ["script", "--quiet", "--return", "--command", f"{cluster.BIN}/{watch}", "/dev/null"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=cluster.DEADLINE_S,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
        ).stdout.decode()
        self.assertEqual(3, shown.count("\r\x1b[Kjobs/terminal  round "), repr(shown))
        self.assertIn("round 3 of 3  loss ", shown)
        self.assertRegex(shown, r"state +SUCCEEDED")

    def test_watch_as_json_is_the_whole_history(self):
        self.cluster.run(digits_job(), "--name", "history")
        events = self.cluster.events("history")
        self.assertEqual(
            list(range(1, len(events) + 1)), [int(event["sequence"]) for event in events]
        )
        committed = [e["round_committed"]["summary"] for e in events if "round_committed" in e]
        self.assertEqual(self.cluster.job("history")["history"], committed)
        states = [e["state_changed"]["state"] for e in events if "state_changed" in e]
        self.assertEqual(["PENDING", "RUNNING", "SUCCEEDED"], states)
        after = (
            self.cluster.cli("job", "watch", "history", "-o", "json", "--after", "4")
            .ok()
            .out.splitlines()
        )
        self.assertEqual(events[4:], [json.loads(line) for line in after])

    def test_cancelled_job_ends_the_wait_with_7(self):
        waiting = self.cluster.background(
            "job",
            "submit",
            self.cluster.file(digits_job(ENDLESS)),
            "--wait",
            "--name",
            "stopped",
            "-o",
            "json",
        )
        eventually("the job exists", lambda: self.cluster.cli("job", "get", "stopped").code == 0)
        self.cluster.wait_round("stopped", 1)
        answer = self.cluster.cli("job", "cancel", "stopped", "-o", "json").ok().json
        self.assertIn(answer["state"], ("CANCELLING", "CANCELLED"))
        self.assertEqual(7, waiting.wait())
        job = self.cluster.job("stopped")
        self.assertEqual("CANCELLED", job["state"])
        self.assertLess(job["round"], ENDLESS)
        self.assertEqual(7, self.cluster.cli("job", "watch", "stopped").code)
        again = self.cluster.cli("job", "cancel", "stopped", "-o", "json")
        self.assertEqual((5, "JOB_ENDED"), (again.code, again.error["reason"]))

    def test_interrupted_watch_leaves_the_job_running(self):
        name = self.cluster.submit(digits_job(ENDLESS))["name"]
        watch = self.cluster.background("job", "watch", name)
        eventually("the watch shows a round", lambda: " round 1 of " in watch.errors())
        watch.send(cluster.signal.SIGINT)
        self.assertEqual(130, watch.wait())
        self.assertIn(f"espalier job cancel {name}", watch.errors())
        self.assertEqual("RUNNING", self.cluster.job(name)["state"])
        self.cluster.cli("job", "cancel", name).ok()
        self.cluster.wait_state(name, "CANCELLED")

    def test_wait_with_a_timeout_ends_with_6(self):
        name = "too-long"
        waited = self.cluster.cli(
            "job",
            "submit",
            self.cluster.file(digits_job(ENDLESS)),
            "--wait",
            "--name",
            name,
            "--timeout",
            "1s",
            "-o",
            "json",
        )
        self.assertEqual(6, waited.code)
        self.assertTrue(waited.error["reason"])
        self.assertEqual("RUNNING", self.cluster.job(name)["state"])
        self.cluster.cli("job", "cancel", name).ok()
        self.cluster.wait_state(name, "CANCELLED")

    def test_several_jobs_run_at_once(self):
        names = [
            self.cluster.submit(digits_job(ENDLESS, seed=i), "--name", f"many-{i}")["name"]
            for i in range(4)
        ]
        for name in names:
            self.cluster.wait_round(name, 2)
        self.assertEqual(["RUNNING"] * 4, [self.cluster.job(name)["state"] for name in names])
        self.assertEqual(
            4, int(self.cluster.cli("cluster", "status", "-o", "json").ok().json["jobs_running"])
        )
        for name in names:
            self.cluster.cli("job", "cancel", name).ok()
        for name in names:
            self.cluster.wait_state(name, "CANCELLED")

    def test_jobs_at_once_compute_what_they_compute_alone(self):
        alone = self.cluster.run(digits_job(5))["model_hash"]
        names = [self.cluster.submit(digits_job(5))["name"] for _ in range(3)]
        self.assertEqual(
            [alone] * 3,
            [self.cluster.wait_state(name, "SUCCEEDED")["model_hash"] for name in names],
        )

    def test_repeated_request_is_the_same_job(self):
        first = self.cluster.submit(digits_job(1), "--request-id", "r-1")
        self.cluster.wait_state(first["name"], "SUCCEEDED")
        again = self.cluster.submit(digits_job(1), "--request-id", "r-1")
        self.assertEqual(first["name"], again["name"])
        other = self.cluster.submit(digits_job(1), "--request-id", "r-2")
        self.assertNotEqual(first["name"], other["name"])

    def test_taken_name_is_a_conflict(self):
        self.cluster.submit(digits_job(1), "--name", "taken")
        second = self.cluster.cli(
            "job", "submit", self.cluster.file(digits_job(1)), "--name", "taken", "-o", "json"
        )
        self.assertEqual((5, "JOB_EXISTS"), (second.code, second.error["reason"]))

    def test_too_long_request_id_is_refused(self):
        job = self.cluster.file(digits_job(1))
        self.cluster.cli("job", "submit", job, "--dry-run", "--request-id", "r" * 64).ok()
        refused = self.cluster.cli("job", "submit", job, "--dry-run", "--request-id", "r" * 65)
        self.assertEqual(2, refused.code)
        self.assertIn("64", refused.err)

    def test_dry_run_leaves_no_job(self):
        before = self.cluster.cli("job", "list").ok().out
        checked = self.cluster.submit(digits_job(), "--dry-run")
        self.assertEqual("", checked["name"])
        self.assertEqual(1, checked["spec"]["federation"]["quorum"], "defaults are filled in")
        self.assertEqual(before, self.cluster.cli("job", "list").ok().out)
        bad = self.cluster.cli("job", "submit", self.cluster.file(digits_job(0)), "--dry-run")
        self.assertEqual(2, bad.code)

    def test_job_from_standard_input(self):
        done = self.cluster.cli(
            "job", "submit", "-", "--wait", "-o", "json", stdin=json.dumps(digits_job(1))
        ).ok()
        self.assertEqual("SUCCEEDED", done.json["state"])

    def test_methods_and_their_parameters(self):
        methods = {
            m["name"]: m
            for m in self.cluster.cli("method", "list", "-o", "json").ok().json["methods"]
        }
        self.assertLessEqual({"dense", "static", "set", "rigl"}, set(methods))
        described = self.cluster.cli("method", "describe", "set", "-o", "json").ok().json
        parameters = {p["name"]: p for p in described["parameters"]}
        self.assertLessEqual({"density", "zeta", "epsilon", "distribution"}, set(parameters))
        for parameter in described["parameters"]:
            self.assertTrue(
                parameter["doc"] and (parameter["range"] or parameter["choices"]), parameter
            )
        text = self.cluster.cli("method", "describe", "rigl").ok().out
        self.assertIn("update_every", text)

    def test_cluster_and_workers(self):
        status = self.cluster.cli("cluster", "status", "-o", "json").ok().json
        self.assertEqual(2, int(status["workers_active"]))
        self.assertEqual(f"http://{self.cluster.metrics}/metrics", status["metrics_address"])
        workers = self.cluster.cli("worker", "list", "-o", "json").ok().json["workers"]
        self.assertEqual(["workers/w1", "workers/w2"], [worker["name"] for worker in workers])
        for worker in workers:
            self.assertEqual("ACTIVE", worker["state"])
            [digits] = worker["datasets"]
            self.assertEqual(
                ("digits", 64, 10, "csv"),
                (digits["name"], int(digits["features"]), int(digits["classes"]), digits["format"]),
            )
        lines = self.cluster.cli("worker", "list").ok().out.splitlines()
        self.assertEqual(
            ["workers/w1\tACTIVE", "workers/w2\tACTIVE"],
            ["\t".join(l.split("\t")[:2]) for l in lines],
        )

    def test_checkpoints_are_kept_and_downloaded(self):
        job = self.cluster.run(
            digits_job(6, checkpoint={"every_rounds": 1, "keep": 2}), "--name", "saved"
        )
        every = self.cluster.cli("checkpoint", "list", "-o", "json").ok().json["checkpoints"]
        mine = {c["round"]: c for c in every if c["job"] == "jobs/saved"}
        self.assertLessEqual({5, 6, job["best_round"]}, set(mine))
        self.assertLessEqual(len(mine), 3)
        target = self.cluster.folder / "saved.safetensors"
        got = self.cluster.cli("checkpoint", "get", "saved-6", "-O", target, "-o", "json").ok().json
        self.assertEqual(mine[6], got)
        self.assertEqual(int(got["size_bytes"]), target.stat().st_size)
        self.assertEqual(job["history"][-1]["main_metric"], got["main_metric"])
        self.assertEqual("accuracy", got["main_metric_name"])
        missing = self.cluster.cli("checkpoint", "get", "saved-99", "-o", "json")
        self.assertEqual(3, missing.code)

    def test_usage_names_the_command_once(self):
        usage = self.cluster.cli("job", "submit", "--help").ok().out
        self.assertIn("Usage: espalier job submit [OPTIONS] FILE", usage)


if __name__ == "__main__":
    unittest.main()
