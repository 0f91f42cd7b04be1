#!/usr/bin/env python3
"""Writes json.md from the messages in proto/espalier/v1 and the examples in tests/golden/json.

    generate_json.py            writes docs/reference/json.md
    generate_json.py --check    writes nothing; exits 1 when the page is not what would be written
"""
import os
import re
import sys

from generate_job_file import HERE, PROTO_FOLDER, Parser, upper_snake

PAGE = os.path.join(HERE, "json.md")
GOLDEN = os.path.join(HERE, "..", "..", "tests", "golden", "json")

INTRODUCTION = """# JSON, YAML and CSV

<!-- Written by docs/reference/generate_json.py from proto/espalier/v1 and tests/golden/json; do not edit. -->

With `-o json` or `-o yaml` a command prints its result for programs, on standard output and nothing else there. Both have the same
keys and values; `job rounds` and `job features` have `-o csv` as well. `job features` prints the job's `features` alone, those that
were selected or `--all`. It is a contract: within a minor version keys are added, and none is removed,
renamed or given another type. Programs should skip keys that they do not know. Tests compare all of it with files in
[tests/golden/json](../../tests/golden/json/README.md), from which the examples here are taken.

- **Keys** are the names in the [protocol](../../proto/README.md), in its order.
- **Numbers** are JSON numbers. Whole ones have up to 64 bits: readers that take every number for a double, such as JavaScript's and
  `jq` before 1.7, round those beyond 2⁵³, for instance a large `seed`. Others have a point or an exponent and the fewest digits
  that read back as the same number. What is no number is `"NaN"`, `"Infinity"` or `"-Infinity"`.
- **Words** stand for enumerations, in capitals: `"SUCCEEDED"`. Without a word the key is absent. A value that is newer than the
  program is a number.
- **Times** are RFC 3339 in UTC: `"2026-03-01T12:00:00.25Z"`. **Durations** are seconds with their unit: `"1.5s"`. **Bytes** are
  base64.
- **What has no value**: texts are `""`, numbers 0, lists `[]`. Keys that may be absent are marked below; they are never null.
- **Method parameters** are plain values: `"density": 0.1`. A `default_value` that is absent means that the parameter is required.
- **Text from elsewhere**, such as names of files, cannot steer a terminal: control characters and the like are `\\u` escapes.
- **A job's `spec`** has the fields of a [job file](job-file.md), and `espalier job submit` takes it.

```
espalier job get digits -o json | jq .state
espalier job get digits -o json | jq .spec | espalier job submit -
espalier job rounds digits -o json --points 500 | jq -c '.rounds[] | [.round, .train_loss]'
```

Exit codes say whether a command did what it should: [exit codes](exit-codes.md).
"""

# Commands, what they print, the file with an example, and what is to be known.
COMMANDS = [
    ("job get", "Job", "job_get.json", ""),
    ("job get --spec", None, "job_spec.yaml",
     "A [job file](job-file.md) with all defaults, as YAML unless `-o json` is given; fields that are not set are left out."),
    ("job submit", "Job", None,
     "The job as it was accepted; with `--wait` as it ended; with `--dry-run` as it would be, without a name."),
    ("job list", "ListJobsResponse", "job_list.json",
     "Jobs are shown without `history`, `last_sites` and `best_sites`."),
    ("job cancel", "Job", None, "The job as it is then."),
    ("job rounds", "ListRoundsResponse", "job_rounds.json",
     "All rounds, or with `--points N` at most N of them. With `-o csv` the same numbers as a table: a line with the names of the "
     "columns, then one for each round; durations are in seconds, as the names say, metrics have columns of their own at the end, "
     "those over sites with `federated_` in front, and what a round does not have is empty:\n\n```\n{csv}```"),
    ("job watch", "JobEvent", "job_watch.json",
     "One line for each event, with `-o json` only; it ends with the job."),
    ("worker list", "ListWorkersResponse", "worker_list.json", ""),
    ("worker token create, user token create", "CreateTokenResponse", "token_create.json",
     "`secret` is `\"\"` where `--file` has it. Without `-o` and `--file` the secret alone is on standard output."),
    ("worker token list, user token list", "ListTokensResponse", "token_list.json", ""),
    ("worker join", "WorkerCertificate", None, "The certificate itself is in the file, and `certificate` is `\"\"`."),
    ("user whoami", "Identity", "user_whoami.json", ""),
    ("dataset list, dataset describe", "ListWorkersResponse", "dataset_list.json",
     "The workers with the data sets that are asked for. Of a worker only `name`, `state` and `datasets` say something."),
    ("method list", "ListMethodsResponse", "method_list.json", ""),
    ("method describe", "Method", "method_describe.json", ""),
    ("checkpoint list", "ListCheckpointsResponse", "checkpoint_list.json", ""),
    ("checkpoint get", "Checkpoint", None, "The checkpoint that was downloaded."),
    ("recommend", "RecommendResponse", "recommend.json", ""),
    ("cluster status", "ClusterInfo", "cluster_status.json", ""),
    ("cluster doctor",
     {"findings": ("list of Finding", "What is wrong comes first. Each has `level` (`error`, `warning`, `ok`), `check` (what was looked at, such as `clock`), "
                   "`found` (a sentence) and `fix` (what to do; `\"\"` where there is nothing to do).")}, None,
     "Exits with 5 when there is an error, and with 6 when no coordinator answers. See [troubleshooting](../operations/troubleshooting.md)."),
    ("audit verify",
     {"entries": ("integer", "How many are as they were written."), "head": ("text", "SEQ:HASH of the last of them; `\"\"` without any."),
      "previous_hash": ("text", "The hash of the entry before the first; zeros when there was none."),
      "problems_in_all": ("integer", "0 when the log is as it was written."),
      "problems": ("list of Problem", "The first hundred: each with `file`, `line` (0: of no line), `seq` (0: of no entry) and `text`."),
      "notes": ("list of text", "What is no fault, sentences for people."), "first_seq": ("integer", "Of the first entry."),
      "first_time": ("time", "Of the first entry."), "last_time": ("time", "Of the last entry.")}, None,
     "Exits with 1 when there are problems. See the [audit log](../security/audit.md)."),
    ("audit list",
     {"entries": ("list of Entry", "Each with `seq`, `time`, `caller`, `role`, `source`, `from`, `call`, `object`, `outcome`, `note` "
                  "and `hash`.")}, None, "The newest `--limit` of the entries that fit, oldest first."),
    ("version", {"version": ("text", "Of this program."), "protocol_min": ("integer", "The oldest protocol that it speaks."),
                 "protocol_max": ("integer", "The newest protocol that it speaks.")}, None, ""),
    ("up", {"address": ("text", "host:port of the coordinator."), "metrics_address": ("text", "host:port of its metrics."),
            "worker_metrics_addresses": ("list of text", "host:port of each worker's metrics."),
            "dashboard_url": ("text", "Where a browser finds the dashboard; empty where there is none."),
            "log_dir": ("text", "Folder with the logs.")}, None, "One line, as soon as the cluster runs."),
    ("dashboard", {"address": ("text", "HOST:PORT on which it listens."),
                   "url": ("text", "Where a browser on this machine finds it.")}, None, "One line, as soon as it listens."),
    ("init", {"job_file": ("text", "The file that was written."), "data_root": ("text", "Folder that holds the data set."),
              "dataset": ("[DatasetInfo](#datasetinfo)", "What the data were taken for."),
              "findings": ("list of text", "What was noticed, sentences for people."),
              "first_terminal": ("list of Step", "What to type next: each with `command` and `purpose`."),
              "second_terminal": ("list of Step", "The same in another terminal.")}, None, ""),
    ("demo", "ListJobsResponse", None, "Both jobs as they ended."),
    ("cert init, cert issue, cert keep, cert list, cert renew, cert revoke",
     {"folder": ("text", "The folder of `--dir`."),
      "certificates": ("list of Certificate", "Those that were made, renewed or revoked, or all: each with `name`; `role`, in capitals, AUTHORITY "
                       "of an authority; `state`, one of VALID, ENDS_SOON, EXPIRED, REVOKED and REPLACED; `hosts`, a list; `serial`, hexadecimal; "
                       "`expire_time`; and `days_left`, whole days."),
      "lists_expire_time": ("time", "By then the lists of revoked certificates should be renewed.")}, None,
     "`cert list` prints the newest certificate of each name first, then those that it replaced and that have not ended."),
    ("errors", {"code": ("text", "Kind of the error: a gRPC status, such as `NOT_FOUND`."),
                "reason": ("text", "Stable [reason](errors.md); `\"\"` where there is none."),
                "message": ("text", "A sentence for people, and perhaps further lines."),
                "violations": ("list of Violation", "What is wrong with a job: each with `field` and `description`."),
                "violations_left_out": ("integer", "Present when there are more.")}, "error.json",
     "On standard error, with any command; `-o yaml` prints the same."),
]

OPTIONAL_KEYS = {"violations_left_out", "first_seq", "first_time", "last_time"}

TYPES = {"string": "text", "bool": "true or false", "double": "number", "float": "number", "int32": "integer",
         "int64": "integer", "uint64": "integer", "uint32": "integer", "bytes": "base64",
         "google.protobuf.Duration": "duration", "google.protobuf.Timestamp": "time"}


def read_protocol():
    parser = Parser()
    for name in ("types", "results", "recommender", "model", "data", "job", "method", "worker", "cluster", "checkpoint", "access"):
        with open(os.path.join(PROTO_FOLDER, name + ".proto"), encoding="utf-8") as stream:
            parser.read(stream.read())
    return parser


def golden(name):
    with open(os.path.join(GOLDEN, name), encoding="utf-8") as stream:
        return stream.read()


def words(parser, enum):
    prefix = upper_snake(enum.split(".")[-1]) + "_"
    return [value.name[len(prefix):] for value in parser.enums[enum] if not value.name.endswith("_UNSPECIFIED")]


def title(message):
    return message.split(".")[-1]


def type_of(parser, field):
    if field.type == "JobSpec":
        word = "[job file](job-file.md)"
    elif field.type == "Value":
        word = "value"
    elif field.type in TYPES:
        word = TYPES[field.type]
    elif field.type in parser.enums:
        word = "one of " + ", ".join(f"`{word}`" for word in words(parser, field.type))
    elif field.type not in parser.messages:
        sys.exit(f"expected a message of the files that are read, found {field.type}; add its file to read_protocol()")
    else:
        word = f"[{title(field.type)}](#{title(field.type).lower()})"
    return f"list of {word}" if field.repeated else word


def is_always_there(parser, field):
    if field.repeated:
        return True
    return not field.optional and (field.type in TYPES and not field.type.startswith("google."))


def table(rows):
    lines = ["| key | value | there | meaning |", "| --- | --- | --- | --- |"]
    for key, value, always, meaning in rows:
        meaning = re.sub(r"\s+", " ", meaning).replace("|", "\\|")
        lines.append(f"| `{key}` | {value} | {'always' if always else 'perhaps'} | {meaning} |")
    return lines


def message_section(parser, message):
    described = parser.messages[message]
    lines = ["", f"### {title(message)}", ""]
    if described.comment:
        lines += [described.comment, ""]
    rows = []
    for field in described.fields:
        comment = field.comment.replace(" [OUTPUT_ONLY]", "").replace(" [REQUIRED]", "")
        rows.append((field.name, type_of(parser, field), is_always_there(parser, field), comment))
    return lines + table(rows)


def reachable(parser, roots):
    """Messages that are printed, in the order in which they are met."""
    found, queue = [], list(roots)
    while queue:
        message = queue.pop(0)
        if message in found:
            continue
        found.append(message)
        for field in parser.messages[message].fields:
            if field.type in parser.messages and field.type not in ("JobSpec", "Value"):
                queue.append(field.type)
    return found


def command_section(name, printed, example, note):
    shown = " and ".join(f"`{part}`" for part in name.split(", ")) if name != "errors" else "Errors"
    lines = ["", f"## {shown}", ""]
    if isinstance(printed, str):
        lines += [f"Prints: [{printed}](#{printed.lower()})", ""]
    if note:
        lines += [note.replace("{csv}", golden("job_rounds.csv")), ""]
    if isinstance(printed, dict):
        rows = [(key, value, key not in OPTIONAL_KEYS, meaning) for key, (value, meaning) in printed.items()]
        lines += table(rows) + [""]
    if example:
        lines += ["```", golden(example).rstrip("\n"), "```", ""]
    return lines[:-1]


def page():
    parser = read_protocol()
    lines = [INTRODUCTION.rstrip("\n")]
    for command in COMMANDS:
        lines += command_section(*command)
    lines += ["", "## Messages"]
    roots = [printed for _, printed, _, _ in COMMANDS if isinstance(printed, str)] + ["DatasetInfo"]
    for message in reachable(parser, roots):
        lines += message_section(parser, message)
    return "\n".join(lines) + "\n"


def main():
    wanted = page()
    if "--check" not in sys.argv:
        with open(PAGE, "w", encoding="utf-8") as stream:
            stream.write(wanted)
        return 0
    found = open(PAGE, encoding="utf-8").read() if os.path.exists(PAGE) else ""
    if found == wanted:
        return 0
    print("docs/reference/json.md does not match proto/espalier/v1 and tests/golden/json; run docs/reference/generate_json.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
