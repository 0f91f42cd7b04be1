"""`espalier audit`: reads a log that is written here by docs/security/audit.md, as it is and after it was changed."""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from cluster import SOURCE, espalier

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


if __name__ == "__main__":
    unittest.main()
