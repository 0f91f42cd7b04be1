#!/usr/bin/env python3
"""Writes job-file.md from the messages in proto/espalier/v1, which the job-file reader is driven by.

    generate_job_file.py            writes docs/reference/job-file.md
    generate_job_file.py --check    writes nothing; exits 1 when the page is not what would be written
"""
import os
import re
import sys
from collections import namedtuple

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "job-file.md")
PROTO_FOLDER = os.path.join(HERE, "..", "..", "proto", "espalier", "v1")
ROOT_MESSAGE = "JobSpec"

Field = namedtuple("Field", "name type repeated comment optional")  # optional: it may be absent, however it is typed
Value = namedtuple("Value", "name comment")
Message = namedtuple("Message", "fields comment")

_MESSAGE = re.compile(r"message (\w+) \{")
_ENUM = re.compile(r"enum (\w+) \{")
_FIELD = re.compile(r"(repeated |optional )?(map<\w+, *\w+>|[\w.]+) (\w+) = \d+;")
_VALUE = re.compile(r"(\w+) = \d+;")
_REQUIRED = re.compile(r"\s*\[REQUIRED\]")

SCALARS = {"string": "text", "bool": "true or false", "double": "number", "int32": "integer",
           "int64": "integer", "uint64": "integer", "uint32": "integer",
           "google.protobuf.Duration": "duration"}

INTRODUCTION = """# Job files

<!-- Written by docs/reference/generate_job_file.py from proto/espalier/v1; do not edit. -->

A job file is YAML. Its fields are those of the API's message `JobSpec`, under the same names. Start from a file in
[docs/examples](../examples/README.md); the [tutorial](../tutorial.md) writes one step by step.

- **Maps and lists.** A message is a map, a repeated field a list.
- **Words.** The values of an enumeration are words: `kind: dirichlet`. Capitals, which commands print, are read as well.
- **Durations** are numbers with units: `30s`, `10m`, `1h30m`.
- **Method parameters** are a plain map under `method.parameters`. Each method has its own:
  `espalier method describe set` or [docs/methods](../methods/README.md).
- **Defaults.** A field that is left out has its default. `espalier job submit FILE --dry-run -o yaml` shows the job with
  all of them filled in, under `spec`. `espalier job get JOB --spec` prints a job file with all of them, and either can be
  submitted again; [JSON](json.md) says how values are written there.
- **Overrides.** `--set federation.rounds=5` and `--set 'model.layers[0].linear.units=100'` replace one value, `--set
  'method={name: dense}'` a whole part; `--set model.recommender.lightgcn=null` leaves a field out. The list
  item must exist.
- **Limits.** At most 1 MiB, 32 levels and 100,000 values; YAML anchors and aliases are refused. A text has at most 1,000
  bytes, a list of numbers 100,000 items and any other list 1,000. A number that is not whole is 0 or between 1e-30 and
  1e30, without its sign.
- **Mistakes** are reported with line, path and the nearest known name. Unknown names and wrong types are reported first;
  then ranges and, by the coordinator, the method's parameters; when those are right, what is computed from them (does the
  density leave a weight in each layer); then what depends on connected workers (does anybody offer the data set, does it
  fit the model) and on the coordinator's memory.
"""


def sentence(lines):
    return " ".join(line.strip() for line in lines if line.strip())


class Parser:
    """Reads the subset of the proto language that the project's files use, with its comments."""

    def __init__(self):
        self.messages = {}
        self.enums = {}

    def read(self, text):
        self.comment, self.stack = [], []
        for line in text.splitlines():
            self._line(line.strip())

    def _line(self, line):
        if line.startswith("//"):
            self.comment.append(line[2:])
            return
        code, _, trailing = line.partition("//")
        code = code.strip()
        comment = sentence(self.comment + [trailing])
        if match := _MESSAGE.match(code):
            name = self._inside(match[1])
            self.messages[name] = Message([], comment)
            self.stack.append(("message", name))
        elif match := _ENUM.match(code):
            name = self._inside(match[1])
            self.enums[name] = []
            self.stack.append(("enum", name))
        elif code.endswith("{"):
            self.stack.append(("other", code))
        elif self.stack:
            self._member(code, comment)
        if code.endswith("}"):
            self.stack.pop()
        self.comment = []

    def _inside(self, name):
        """The name with those of the messages that it is declared in."""
        owners = [owner for kind, owner in self.stack if kind == "message"]
        return f"{owners[-1]}.{name}" if owners else name

    def _member(self, code, comment):
        kind, name = self.stack[-1]
        if kind == "enum" and (match := _VALUE.match(code)):
            self.enums[name].append(Value(match[1], comment))
        owners = [other for other_kind, other in self.stack if other_kind == "message"]
        if kind != "enum" and owners and (match := _FIELD.match(code)):
            repeated = (match[1] or "").strip() == "repeated"
            inner = self._inside(match[2])  # what this message declares hides what the file does
            type_name = inner if inner in self.enums or inner in self.messages else match[2]
            optional = kind == "other" or (match[1] or "").strip() == "optional"  # other: a oneof
            self.messages[owners[-1]].fields.append(Field(match[3], type_name, repeated, comment, optional))


def upper_snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def words(parser, enum):
    """The job-file words of an enum with their comments."""
    prefix = upper_snake(enum.split(".")[-1]) + "_"
    return [(value.name[len(prefix):].lower(), value.comment)
            for value in parser.enums[enum] if not value.name.endswith("_UNSPECIFIED")]


def default_word(parser, enum):
    return next((value.comment for value in parser.enums[enum] if value.name.endswith("_UNSPECIFIED")), "")


def anchor(path):
    return re.sub(r"[^a-z0-9_-]", "", path.lower())


def type_cell(parser, field, path):
    if field.type.startswith("map<"):
        return "map"
    if field.type in SCALARS:
        word = SCALARS[field.type]
    elif field.type in parser.enums:
        word = "one of " + ", ".join(f"`{name}`" for name, _ in words(parser, field.type))
    else:
        word = f"[map](#{anchor(path)})"
    return "list of " + (word + "s" if word in ("integer", "number") else word + "s" if word == "text" else word) \
        if field.repeated else word


def meaning_cell(parser, field, explained_at):
    """`explained_at`: the last field before that has a comment, which fields without one share."""
    parts = ["**Required.**"] if _REQUIRED.search(field.comment) else []
    comment = _REQUIRED.sub("", field.comment)
    parts.append(comment)
    if field.type in parser.enums:
        default = default_word(parser, field.type)
        if default and "efault" not in comment:
            parts.append(re.sub(r"(?<=^The default is )[A-Z0-9_]+", lambda word: f"`{word[0].lower()}`", default))
        parts += [f"`{name}`: {text}" for name, text in words(parser, field.type) if text]
    if not comment and field.type in parser.messages:
        parts.append(parser.messages[field.type].comment)
    elif not comment and field.type in SCALARS:
        parts.append(f"Explained with `{explained_at}`.")
    elif not comment and field.type.startswith("map<"):
        parts.append("Name to value; the method says which.")
    return re.sub(r"\s+", " ", " ".join(part for part in parts if part)).replace("|", "\\|")


def section(parser, message, path, around=()):
    """The table of one message, then the sections of the messages in it; `around` maps the messages that it lies in,
    which may contain themselves, to their sections."""
    around = dict(around, **{message: path})
    heading = "The file" if not path else f"`{path}`"
    lines = ["", f"## {heading}", ""]
    if path and parser.messages[message].comment:
        lines += [parser.messages[message].comment, ""]
    if not parser.messages[message].fields:
        return lines + ["No fields: `{}`."]
    lines += ["| field | value | meaning |", "| --- | --- | --- |"]
    inner, explained_at = [], None
    for field in parser.messages[message].fields:
        child = (path + "." if path else "") + field.name + ("[]" if field.repeated else "")
        place = around.get(field.type, child)
        explained_at = field.name if field.comment else explained_at
        meaning = meaning_cell(parser, field, explained_at)
        lines.append(f"| `{field.name}` | {type_cell(parser, field, place)} | {meaning} |")
        if field.type in parser.messages and field.type != "Value" and place == child:
            inner.append((field.type, child))
    for name, child in inner:
        lines += section(parser, name, child, around)
    return lines


def page():
    parser = Parser()
    for name in ("types", "recommender", "model", "data", "job"):
        with open(os.path.join(PROTO_FOLDER, name + ".proto"), encoding="utf-8") as stream:
            parser.read(stream.read())
    return INTRODUCTION + "\n".join(section(parser, ROOT_MESSAGE, "")) + "\n"


def main():
    wanted = page()
    if "--check" not in sys.argv:
        with open(PAGE, "w", encoding="utf-8") as stream:
            stream.write(wanted)
        return 0
    found = open(PAGE, encoding="utf-8").read() if os.path.exists(PAGE) else ""
    if found == wanted:
        return 0
    print("docs/reference/job-file.md does not match proto/espalier/v1; run docs/reference/generate_job_file.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
