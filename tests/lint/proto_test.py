#!/usr/bin/env python3
"""Checks the style of the public protocol: package = folder, options for Go and Java, enum zero values, value
prefixes, comments on services and calls. With --self-test it checks itself first.
"""
import os
import re
import sys

from files import ROOT, project_files

_ENUM = re.compile(r"\benum\s+(\w+)\s*\{([^}]*)\}")
_VALUE = re.compile(r"(\w+)\s*=\s*(-?\d+)\s*[;\[]")


def upper_snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def check_enum(name, body):
    values = _VALUE.findall(body)
    zero = next((value for value, number in values if number == "0"), None)
    wanted = upper_snake(name) + "_UNSPECIFIED"
    if zero != wanted:
        yield f"enum {name}: value 0 must be {wanted}, found {zero}"
    for value, _ in values:
        if not value.startswith(upper_snake(name) + "_"):
            yield f"enum {name}: value {value} must start with {upper_snake(name)}_"


def _options(path, package):
    """Returns the options that clients in Go and Java need, with their values."""
    go = f"{package.replace('.', '/')};{package.replace('.', '')}"
    # Java's own choice, the file's name, may be the name of a message of another file.
    outer = os.path.basename(path).removesuffix(".proto").title().replace("_", "") + "Proto"
    return {"go_package": f'"{go}"', "java_multiple_files": "true", "java_package": f'"{package}"',
            "java_outer_classname": f'"{outer}"'}


def _uncommented(text):
    """Yields each service and call that stands without a comment above it."""
    above = ""
    for line in (line.strip() for line in text.splitlines()):
        declared = re.match(r"(service|rpc)\s+(\w+)", line)
        if declared and not above.startswith("//"):
            yield declared.group(1), declared.group(2)
        above = line


def check_proto(path, text):
    """Yields one sentence for each fault of the proto file `path` (relative to proto/)."""
    code = re.sub(r"//[^\n]*", "", text)
    if not re.search(r'^syntax\s*=\s*"proto3";', code, re.MULTILINE):
        yield 'must say syntax = "proto3";'
    package = os.path.dirname(path).replace("/", ".")
    if not re.search(rf"^package\s+{re.escape(package)};", code, re.MULTILINE):
        yield f"must be in package {package}, after its folder"
    for option, value in _options(path, package).items():
        if not re.search(rf"^option\s+{option}\s*=\s*{re.escape(value)};", code, re.MULTILINE):
            yield f"must say option {option} = {value}; clients in that language need it"
    for name, body in _ENUM.findall(code):
        yield from check_enum(name, body)
    for kind, name in _uncommented(text):
        yield f"{kind} {name} needs a comment above it that says what it is for"


def self_test():
    good = ('syntax = "proto3";\npackage a.v1;\noption go_package = "a/v1;av1";\n'
            'option java_multiple_files = true;\noption java_package = "a.v1";\n'
            'option java_outer_classname = "XProto";\n// Calls.\nservice S {\n// Does it.\nrpc R(M) returns (M);\n}\n'
            "message M { enum TaskKind { TASK_KIND_UNSPECIFIED = 0; TASK_KIND_TRAIN = 1; } }\n")
    assert not list(check_proto("a/v1/x.proto", good)), list(check_proto("a/v1/x.proto", good))
    for old, new in (('"proto3"', '"proto2"'), ("package a.v1", "package b.v1"), ("// Calls.\n", "\n"),
                     ("// Does it.\n", ""), ("XProto", "X"),
                     ("a/v1;av1", "av1"), ("java_multiple_files", "java_files"),
                     ("TASK_KIND_UNSPECIFIED", "TASK_KIND_NONE"), ("TASK_KIND_TRAIN", "TRAIN")):
        assert list(check_proto("a/v1/x.proto", good.replace(old, new))), f"{new} was not detected"


def main():
    if "--self-test" in sys.argv:
        self_test()
    faults = []
    for path in project_files():
        if path.startswith("proto/") and path.endswith(".proto"):
            with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
                faults += [f"{path}: {fault}" for fault in check_proto(path[len("proto/"):], stream.read())]
    print("\n".join(faults), end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
