#!/usr/bin/env python3
"""Checks of each .cc file what clang-tidy looks for in the main file of a run only, which tidy.py makes of several.

    main_file_test.py                  all files
    main_file_test.py --self-test      on planted faults first

Found are using declarations and aliases of namespaces that nothing uses, and headers of C in place of those of C++.
"""
import os
import re
import sys

from files import ROOT, project_files

_DECLARED = re.compile(r"^\s*(?:using\s+[\w:]+::(\w+)|namespace\s+(\w+)\s*=\s*[\w:]+);", re.MULTILINE)
_C_HEADER = re.compile(r"^\s*#\s*include\s*<(assert|ctype|errno|fenv|float|inttypes|limits|locale|math|setjmp|signal|stdarg|"
                       r"stddef|stdint|stdio|stdlib|string|time|wchar|wctype)\.h>", re.MULTILINE)
_COMMENT = re.compile(r"//[^\n]*")
_PASSED_OVER = re.compile(r"^.*// NOLINT.*$", re.MULTILINE)
_PLANTED = """#include <string.h>
using std::swap;  // swap
using absl::StatusOr;
namespace fs = std::filesystem;
StatusOr<int> Nothing();
"""


def faults(text):
    """Yields (line, what is wrong) for the text of a file."""
    code = _COMMENT.sub("", _PASSED_OVER.sub("", text))
    for match in _DECLARED.finditer(code):
        name = match.group(1) or match.group(2)
        if len(re.findall(rf"\b{name}\b", code)) == 1:
            yield code.count("\n", 0, match.start(match.lastindex)) + 1, f"{name} is declared and not used"
    for match in _C_HEADER.finditer(code):
        yield code.count("\n", 0, match.start(1)) + 1, f"use <c{match.group(1)}> in place of <{match.group(1)}.h>"


def main():
    if "--self-test" in sys.argv[1:]:
        lines = sorted(line for line, _ in faults(_PLANTED))
        if lines != [1, 2, 4]:
            print(f"main_file_test.py: of lines 1, 2 and 4, which are faulty, found {lines}")
            return 1
    found = 0
    for path in project_files():
        if path.endswith(".cc"):
            with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
                for line, what in faults(stream.read()):
                    print(f"{path}:{line}: {what}")
                    found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
