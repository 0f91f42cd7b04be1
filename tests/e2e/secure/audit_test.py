"""`espalier audit`: reads a log that is written here by docs/security/audit.md, as it is and after it was changed; and the
log of a real coordinator."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import SOURCE, digits_job, espalier
from security import Secured

PAGE = SOURCE / "docs/security/audit.md"
ZEROS = "0" * 64


def entry(seq, prev, **members):
    """A line of the log, and its hash."""
    members = {
        "time": f"2026-12-01T09:30:{seq:02d}.000000Z", "caller": "ada", "role": "submitter", "source": "certificate:4f2a",
        "from": "10.0.0.5:41234", "call": "CreateJob", "object": "jobs/a", "outcome": "ok",
    } | members
    text = json.dumps({"seq": seq} | members | {"prev": prev}, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{text[:-1]},"hash":"{digest}"}}\n', digest


class AuditTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "audit"
        self.folder.mkdir()
        self.lines, self.hashes, prev = [], [ZEROS], ZEROS
        for seq in range(1, 7):
            members = {}
            if seq == 1:
                members = {"caller": "", "role": "log", "source": "", "from": "", "call": "audit.Begin", "object": ""}
            if seq == 5:
                members = {"caller": 'eve"\\x1b[2J', "call": "CancelJob", "outcome": "PERMISSION_DENIED"}
            line, prev = entry(seq, prev, **members)
            self.lines.append(line)
            self.hashes.append(prev)
        self.write()

    def write(self):
        (self.folder / "0000000001.jsonl").write_text("".join(self.lines[:3]))
        (self.folder / "0000000004.jsonl").write_text("".join(self.lines[3:]))

    def head(self, seq):
        return f"{seq}:{self.hashes[seq]}"

    def verify(self, *arguments):
        return espalier("audit", "verify", self.folder, *arguments)

    def changed(self, *words, arguments=()):
        """Verifies a log that was changed; the problems as text have `words`."""
        result = self.verify(*arguments)
        self.assertEqual(1, result.code, result.out + result.err)
        for word in words:
            self.assertIn(word, result.out)

    def test_a_log_as_it_was_written(self):
        result = self.verify("--head", self.head(3), "--head", self.head(6)).ok()
        self.assertEqual("the log is as it was written\n", result.err)
        self.assertIn(f"head\t{self.head(6)}\n", result.out)
        found = self.verify("-o", "json").ok().json
        self.assertEqual(
            (6, self.head(6), ZEROS, 0, [], "2026-12-01T09:30:01.000000Z"),
            tuple(found[key] for key in ("entries", "head", "previous_hash", "problems_in_all", "problems", "first_time")),
        )

    def test_what_was_changed_is_named(self):
        self.lines[4] = self.lines[4].replace("PERMISSION_DENIED", "ok")
        self.write()
        self.changed("0000000004.jsonl, line 2, entry 5: ", "the entry was changed")
        problem, = self.verify("-o", "json").json["problems"]
        self.assertEqual((2, 5), (problem["line"], problem["seq"]))

    def test_what_was_removed_or_moved_is_named(self):
        whole = list(self.lines)
        self.lines[1] = ""
        self.write()
        self.changed("0000000001.jsonl, line 2, entry 2: ", "entry 2 removed")
        self.lines = whole[:4] + [whole[5], whole[4]]
        self.write()
        self.changed("entry 5", "not in its place")
        self.lines = whole
        self.write()
        (self.folder / "0000000001.jsonl").unlink()
        result = self.verify("-o", "json").ok().json
        self.assertEqual((4, self.hashes[3]), (result["first_seq"], result["previous_hash"]))

    def test_an_end_that_was_cut_off_is_found_by_a_head(self):
        del self.lines[5]
        self.write()
        self.verify().ok()
        self.changed("its end was cut off", arguments=["--head", self.head(6)])

    def test_a_log_that_was_made_anew_is_found_by_a_head(self):
        prev = ZEROS
        for seq in range(1, 7):
            self.lines[seq - 1], prev = entry(seq, prev, caller="nobody")
        self.write()
        self.verify().ok()
        self.changed("made anew", arguments=["--head", self.head(4)])

    def test_entries_are_listed(self):
        out = espalier("audit", "list", self.folder, "--call", "CancelJob").ok().out
        self.assertEqual(1, len(out.splitlines()))
        self.assertIn('eve"\\x1b[2J', out)
        found = espalier("audit", "list", self.folder, "--caller", "ada", "--limit", "2", "-o", "json").ok().json["entries"]
        self.assertEqual([4, 6], [one["seq"] for one in found])
        self.assertEqual(json.loads(self.lines[5]) | {"note": ""}, found[1] | {"prev": self.hashes[5]})
        since = espalier("audit", "list", self.folder, "--since", "2026-12-01T09:30:06Z", "-o", "json").ok().json["entries"]
        self.assertEqual([6], [one["seq"] for one in since])
        self.lines[1] = self.lines[1].replace("ada", "bob")
        self.write()
        damaged = espalier("audit", "list", self.folder, "-o", "json")
        self.assertEqual((1, 5), (damaged.code, len(damaged.json["entries"])))
        self.assertIn("not as it was written", damaged.err)

    def test_mistakes_are_told(self):
        for code, reason, arguments in (
            (3, "AUDIT_LOG_NOT_FOUND", ["verify", self.folder.parent]),
            (2, "AUDIT_FILE_NAME", ["verify", self.folder / "copy.jsonl"]),
            (3, "FILE_NOT_FOUND", ["verify", self.folder / "0000000009.jsonl"]),
            (2, "AUDIT_HEAD_INVALID", ["verify", self.folder, "--head", "4711"]),
            (2, "USAGE", ["list", self.folder, "--since", "yesterday"]),
        ):
            with self.subTest(reason):
                result = espalier("audit", *arguments, "-o", "json")
                self.assertEqual((code, reason), (result.code, result.error["reason"]), result.err)

    def test_the_page_checks_an_entry_without_espalier(self):
        command = re.search(r"^sed -n 3p .*$", PAGE.read_text(), re.MULTILINE)[0]
        digest = subprocess.run(["sh", "-c", command], cwd=self.folder, text=True, capture_output=True, check=True).stdout
        self.assertEqual(self.hashes[3], digest.split()[0])


class CoordinatorTest(unittest.TestCase):
    """What a coordinator writes down, and its heads in the ordinary log."""

    def setUp(self):
        self.own = self.enterContext(Secured())
        self.folder = self.own.folder / "data/audit"

    def heads(self):
        return re.findall(r" audit_head head=(\S+)", self.own.coordinator.errors())

    def verify(self, *heads):
        return espalier("audit", "verify", self.folder, *(word for head in heads for word in ("--head", head)))

    def calls(self):
        found = espalier("audit", "list", self.folder, "-o", "json").ok().json["entries"]
        return [(one["caller"], one["role"], one["call"], one["object"], one["outcome"]) for one in found if one["role"] != "log"]

    def submit(self, name, who):
        return self.own.cli("job", "submit", self.own.file(digits_job()), "--name", name, who=who)

    def end(self):
        self.own.coordinator.send(signal.SIGTERM)
        self.assertEqual(0, self.own.coordinator.wait())

    def test_calls_are_there_with_their_callers_and_the_last_head_is_told(self):
        for name, role in (("ada", "submitter"), ("vera", "viewer")):
            self.own.issue(name, role)
        self.submit("a", "ada").ok()
        self.submit("b", "vera")
        self.own.cli("job", "cancel", "a", who="ada").ok()
        self.own.cli("job", "list", who="ada").ok()
        self.end()
        self.assertEqual([
            ("ada", "submitter", "CreateJob", "jobs/a", "ok"), ("vera", "viewer", "CreateJob", "", "ROLE_NOT_ALLOWED"),
            ("ada", "submitter", "CancelJob", "jobs/a", "ok"),
        ], [call if call[0] != "vera" else (*call[:3], "", call[4]) for call in self.calls()])
        self.assertEqual(2, len(self.heads()))
        self.verify(*self.heads()).ok()
        # Whoever cuts off what ada did last is found out.
        path, = self.folder.glob("*.jsonl")
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
        self.assertIn("its end was cut off", self.verify(*self.heads()).out)

    def test_kills_leave_a_chain_that_goes_on(self):
        for life in range(3):
            self.submit(f"job-{life}", "admin").ok()
            self.own.restart()
        self.end()
        self.verify(*self.heads()).ok()
        # The answer does not wait for the disk: the last call of a life that is killed may be missing.
        made = [call for call in self.calls() if call[2] == "CreateJob"]
        self.assertLessEqual({call[3] for call in made}, {f"jobs/job-{life}" for life in range(3)})
        self.assertEqual(4, len(list(self.folder.glob("*.jsonl"))))

    def test_a_log_that_was_changed_is_never_continued_silently(self):
        self.submit("a", "admin").ok()
        self.end()
        path, = self.folder.glob("*.jsonl")
        path.write_text(path.read_text().replace('"admin"', '"nobody"'))
        self.own.start()
        self.assertIn("audit_chain_broken", self.own.coordinator.errors())
        with urllib.request.urlopen(f"http://{self.own.metrics}/metrics", timeout=10) as page:
            self.assertIn('espalier_audit_faults_total{kind="chain_broken"} 1', page.read().decode())
        changed = self.verify()
        self.assertEqual(1, changed.code)
        self.assertIn("entry 2: ", changed.out)
        self.assertIn("the beginning of another", changed.out)

    @unittest.skipUnless(os.geteuid() == 0, "only root can mount a small disk")
    def test_nothing_is_changed_while_it_cannot_be_written_down(self):
        small = self.own.folder / "small"
        (small / "audit").mkdir(parents=True)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small / "audit"], check=False, capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("this machine lets nobody mount")
        self.addCleanup(subprocess.run, ["umount", "-l", small / "audit"], check=True)
        self.end()
        self.own.start(data="small")
        filler = small / "audit/filler"
        with contextlib.suppress(OSError):
            filler.write_bytes(bytes(1 << 20))

        def refused():
            # An entry of a long name soon needs more than is left of the page that the log has.
            return "AUDIT_LOG_UNWRITABLE" in self.own.cli("job", "cancel", "x" * 500, "-o", "json").err

        cluster.eventually("calls that change something are refused", refused)
        self.own.cli("job", "list").ok()
        filler.unlink()
        cluster.eventually("they are let in again", lambda: self.submit("c", "admin").code == 0)
        self.end()
        self.folder = small / "audit"
        self.verify(*self.heads()[-1:]).ok()
        self.assertIn(("admin", "admin", "CreateJob", "jobs/c", "ok"), self.calls())


if __name__ == "__main__":
    unittest.main()
