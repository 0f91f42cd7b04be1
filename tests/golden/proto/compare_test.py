#!/usr/bin/env python3
"""What the comparison of two protocols refuses, and what it lets pass."""

import pathlib
import tempfile
import unittest

import compare
import descriptors

BASE = """syntax = "proto3";
package a.v1;
option go_package = "a/v1;av1";
service Jobs {
  rpc Get(Request) returns (Job);
  rpc Watch(Request) returns (stream Job);
}
message Request {
  string name = 1;
}
message Job {
  reserved 9;
  reserved "old";
  enum State {
    STATE_UNSPECIFIED = 0;
    STATE_DONE = 1;
  }
  message Part {
    int32 size = 1;
  }
  string name = 1;
  int64 round = 2;
  repeated Part parts = 3;
  State state = 4;
  optional double loss = 5;
  oneof kind {
    Part small = 6;
    Part large = 7;
  }
  map<string, int32> counts = 8;
}
"""

# What is replaced, by what.
ACCEPTED = {
    "a field": ("int64 round = 2;", "int64 round = 2; string more = 10;"),
    "a comment": ("int64 round = 2;", "// Which.\n int64 round = 2;"),
    "a member of a oneof": ("Part large = 7;", "Part large = 7; Part huge = 10;"),
    "an enum value": ("STATE_DONE = 1;", "STATE_DONE = 1; STATE_NEW = 2;"),
    "a method": ("rpc Get(", "rpc New(Request) returns (Job); rpc Get("),
    "a message": ("message Request", "message New {}\nmessage Request"),
    "a service": ("service Jobs", "service New {}\nservice Jobs"),
    "another order": ("string name = 1;\n  int64 round = 2;", "int64 round = 2;\n  string name = 1;"),
    "a removed field that is reserved": (
        "int64 round = 2;",
        'reserved 2; reserved "round";',
    ),
    "a field that is deprecated": ("int64 round = 2;", "int64 round = 2 [deprecated = true];"),
    "another reservation": ("reserved 9;", "reserved 9, 20 to 30;"),
}

REFUSED = {
    "a removed field": ("int64 round = 2;", "", "a.v1.Job.round: was removed"),
    "a removed field whose number alone is reserved": ("int64 round = 2;", "reserved 2;", "not both reserved"),
    "a removed field whose name alone is reserved": ("int64 round = 2;", 'reserved "round";', "not both reserved"),
    "another number": ("int64 round = 2;", "int64 round = 12;", "a.v1.Job.round: was removed"),
    "another name": ("int64 round = 2;", "int64 step = 2;", "name was round, is step"),
    "another type": ("int64 round = 2;", "int32 round = 2;", "type was TYPE_INT64, is TYPE_INT32"),
    "another message type": ("repeated Part parts", "repeated Request parts", "type_name was .a.v1.Job.Part"),
    "a list": ("int64 round = 2;", "repeated int64 round = 2;", "label was LABEL_OPTIONAL"),
    "no list": ("repeated Part parts", "Part parts", "label was LABEL_REPEATED"),
    "presence": ("int64 round = 2;", "optional int64 round = 2;", "proto3_optional was not set"),
    "no presence": ("optional double loss", "double loss", "proto3_optional was true"),
    "out of a oneof": (
        "Part large = 7;\n  }",
        "}\n  Part large = 7;",
        "a.v1.Job.large: its oneof was kind, is not set",
    ),
    "into a oneof": (
        "int64 round = 2;",
        "oneof other { int64 round = 2; }",
        "a.v1.Job.round: its oneof was not set, is other",
    ),
    "another name of a oneof": ("oneof kind", "oneof sort", "its oneof was kind, is sort"),
    "another value of a map": ("map<string, int32>", "map<string, int64>", "CountsEntry.value: type was"),
    "a removed enum value": ("STATE_DONE = 1;", "", "a.v1.Job.State.STATE_DONE: was removed"),
    "a renumbered enum value": ("STATE_DONE = 1;", "STATE_DONE = 2;", "its number was 1, is 2"),
    "a removed message": ("message Request {\n  string name = 1;\n}\n", "message Other {}\n", "a.v1.Request: was removed"),
    "a removed nested message": ("Part {", "Piece {", "a.v1.Job.Part: was removed"),
    "a removed service": ("service Jobs", "service Tasks", "a.v1.Jobs: was removed"),
    "a removed method": ("rpc Get(Request) returns (Job);", "", "a.v1.Jobs.Get: was removed"),
    "another request": ("rpc Get(Request)", "rpc Get(Job)", "input_type was .a.v1.Request"),
    "another answer": ("rpc Get(Request) returns (Job)", "rpc Get(Request) returns (Request)", "output_type was"),
    "an answer that streams": ("returns (Job);", "returns (stream Job);", "server_streaming was not set, is true"),
    "an answer that streams no more": ("(stream Job)", "(Job)", "server_streaming was true, is not set"),
    "a request that streams": ("rpc Get(Request)", "rpc Get(stream Request)", "client_streaming was not set"),
    "a reservation that ends": ("reserved 9;", "", "number 9 is not reserved any more"),
    "a name that is free again": ('reserved "old";', "", "name old is not reserved any more"),
    "another package": ("package a.v1;", "package b.v1;", "package was a.v1, is b.v1"),
    "another package of Go": ("a/v1;av1", "a/v1;other", "option go_package was a/v1;av1, is a/v1;other"),
    "another package of Java": (
        'option go_package = "a/v1;av1";',
        'option go_package = "a/v1;av1"; option java_package = "x";',
        "option java_package was not set, is x",
    ),
}


def described(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (pathlib.Path(folder) / name).write_text(text)
        return descriptors.parse(descriptors.describe(pathlib.Path(folder)))


class CompareTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.base = described({"a.proto": BASE})

    def breaks(self, text):
        return list(compare.breaks(self.base, described({"a.proto": text})))

    def test_nothing_changed(self):
        self.assertEqual([], self.breaks(BASE))

    def test_additions_are_free(self):
        for name, (old, new) in ACCEPTED.items():
            with self.subTest(name):
                self.assertIn(old, BASE)
                self.assertEqual([], self.breaks(BASE.replace(old, new, 1)))

    def test_breaks_are_named(self):
        for name, (old, new, expected) in REFUSED.items():
            with self.subTest(name):
                self.assertIn(old, BASE)
                text = BASE.replace(old, new, 1)
                if name == "a removed message":
                    text = text.replace("(Request)", "(Other)")
                if name == "a removed nested message":
                    text = text.replace("Part ", "Piece ")
                self.assertIn(expected, "\n".join(self.breaks(text)))

    def test_files_that_go(self):
        found = list(compare.breaks(self.base, described({"c.proto": BASE})))
        self.assertEqual(["a.proto: was removed, renamed or moved to another file"], found)

    def test_files_that_give_a_message_away(self):
        head = 'syntax = "proto3";\npackage a.v1;\n'
        options = 'option go_package = "a/v1;av1";\noption java_multiple_files = true;\n'
        request = "message Request {\n  string name = 1;\n}\n"
        base = BASE.replace('option go_package = "a/v1;av1";\n', options)
        moved = base.replace(request, "").replace("package a.v1;", 'package a.v1;\nimport public "b.proto";')
        given = head + options + request
        through = {"b.proto": head + options + 'import public "c.proto";\n', "c.proto": given}
        gone = ["a.v1.Request: was removed, renamed or moved to another file"]
        for name, a, others, expected in (
            ("to a file that it imports publicly", moved, {"b.proto": given}, []),
            ("to one that it so imports through another", moved, through, []),
            ("to one that it imports", moved.replace("public ", ""), {"b.proto": given}, gone),
            ("to another package of Go", moved, {"b.proto": given.replace("v1;av1", "v1;other")}, gone),
            ("into another class of Java", moved, {"b.proto": given.replace("= true", "= false")}, gone),
            (
                "and it changes",
                moved,
                {"b.proto": given.replace("name = 1", "name = 2; reserved 1")},
                ["a.v1.Request.name: was removed, and its number 1 and name are not both reserved"],
            ),
        ):
            with self.subTest(name):
                now = described({"a.proto": a, **others})
                self.assertEqual(expected, list(compare.breaks(described({"a.proto": base}), now)))

    def test_text_that_is_damaged_is_not_taken_for_an_empty_protocol(self):
        for text in ("<<<<<<< HEAD\n", "}\n", "file {\n"):
            with self.subTest(text), self.assertRaises(ValueError):
                descriptors.parse(text)


if __name__ == "__main__":
    unittest.main()
