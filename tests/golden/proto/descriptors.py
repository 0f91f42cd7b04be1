"""The public protocol as a tree, from protoc or from a recorded file.

The recorded form is the text format of google.protobuf.FileDescriptorSet, as `protoc --decode` prints it, without
json_name, which follows from a field's name.
"""

import os
import pathlib
import re
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
RECORDED = pathlib.Path(__file__).resolve().parent / "espalier.v1.txt"

_LINE = re.compile(r"^\s*(?:(?P<end>\})|(?P<group>\w+) \{|(?P<name>\w+): (?P<value>.*))$")


class Message:
    """One message of the text format: the values of each field, in their order."""

    def __init__(self):
        self.fields = {}

    def all(self, name):
        return self.fields.get(name, [])

    def get(self, name, default=""):
        values = self.all(name)
        return values[-1] if values else default

    def add(self, name, value):
        self.fields.setdefault(name, []).append(value)


def parse(text):
    """Returns the message that `text` holds. Raises ValueError for what is no text format of protoc."""
    stack = [Message()]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.match(line)
        if match is None or (match["end"] and len(stack) == 1):
            raise ValueError(f"line {number}: expected `name: value`, `name {{` or `}}`, found {line!r}")
        if match["end"]:
            stack.pop()
        elif match["group"]:
            inner = Message()
            stack[-1].add(match["group"], inner)
            stack.append(inner)
        else:
            stack[-1].add(match["name"], match["value"].strip('"'))
    if len(stack) != 1:
        raise ValueError(f"expected {len(stack) - 1} more closing braces")
    return stack[0]


def describe(proto_folder):
    """Returns the descriptor set of all .proto files under a folder, as text."""
    protoc = os.environ.get("PROTOC", "protoc")
    files = sorted(str(path.relative_to(proto_folder)) for path in proto_folder.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        binary = pathlib.Path(folder) / "set"
        subprocess.run(
            [protoc, f"-I{proto_folder}", f"--descriptor_set_out={binary}", *files], check=True
        )
        decoded = subprocess.run(
            [protoc, "--decode=google.protobuf.FileDescriptorSet", "google/protobuf/descriptor.proto"],
            input=binary.read_bytes(),
            stdout=subprocess.PIPE,
            check=True,
        ).stdout.decode()
    return "".join(line for line in decoded.splitlines(True) if not line.strip().startswith("json_name:"))
