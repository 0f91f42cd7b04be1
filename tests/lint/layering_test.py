#!/usr/bin/env python3
"""Checks the layering rules of layering_rules.py on every source file and every CMake target.

    layering_test.py [ROOT]     exits 1 and lists the violations, one per line, if there are any
"""
import os
import posixpath
import re
import sys
from collections import Counter, namedtuple

import layering_rules as rules
from files import ROOT, project_files

Violation = namedtuple("Violation", "path line rule message")

_INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
_COMMENT_OR_TEXT = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<d>[^(\s]*)\(.*?\)(?P=d)"|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])+\'',
    re.DOTALL)
_CMAKE_COMMAND = re.compile(r"\b(\w+)\s*\(([^()]*)\)", re.DOTALL)
_CMAKE_KEYWORDS = {"SOURCES", "DEPS", "PRIVATE_DEPS", "PUBLIC", "PRIVATE", "INTERFACE", "STATIC"}
_LIBRARY_COMMANDS = {"espalier_library", "add_library", "add_executable", "target_link_libraries"}
# Home folders and work folders of a particular machine, spelled so that this line is not one.
_MACHINE_PATH = re.compile(r"(?<![\w./~}$:-])/(?:wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+)/")


def within(path, folder):
    return path == folder or path.startswith(folder + "/")


def rules_for(table, path):
    """All values of `table` whose folder contains `path`, joined."""
    return [value for folder, values in table.items() if within(path, folder) for value in values]


def allowed_for(path):
    """(folder, allowed folders) of the longest MAY_USE entry that contains `path`, or None."""
    matches = [folder for folder in rules.MAY_USE if within(path, folder)]
    if not matches:
        return None
    folder = max(matches, key=len)
    return folder, rules.MAY_USE[folder]


def may_use(path, target):
    entry = allowed_for(path)
    if entry is None:
        return True
    folder, allowed = entry
    return within(target, folder) or any(within(target, other) for other in allowed)


def without_comments_and_text(code):
    """Blanks comments and literals but keeps the line numbers."""
    return _COMMENT_OR_TEXT.sub(lambda match: "\n" * match.group().count("\n") or " ", code)


def include_target(included, files):
    """The project folder or file that an include names, or None for outside headers."""
    if included.endswith(".pb.h"):
        return "proto"
    return included if included in files else None


def check_include(path, line, included, files):
    for kind, (headers, _) in rules.KINDS.items():
        if not headers.match(included):
            continue
        if kind in rules_for(rules.NEVER, path) + rules_for(rules.NEVER_INCLUDED, path):
            yield Violation(path, line, "never", f"includes {included}: {kind} is not allowed here")
        only = rules.ONLY_IN.get(kind)
        if only and not within(path, "tests") and not any(within(path, folder) for folder in only):
            yield Violation(path, line, "only-in",
                            f"includes {included}: {kind} belongs in {', '.join(only)} only")
    target = include_target(included, files)
    if target and not may_use(path, target):
        yield Violation(path, line, "may-use",
                        f"includes {included}: allowed here are {', '.join(allowed_for(path)[1]) or 'none'}")


def check_source(path, text, files):
    for number, line in enumerate(text.splitlines(), 1):
        match = _INCLUDE.match(line)
        if match:
            yield from check_include(path, number, match.group(2), files)
    code = without_comments_and_text(text)
    for folders, pattern, rule, advice in (
            (rules.NO_CLOCK, rules.CLOCK, "clock", "take the time from the injected clock"),
            (rules.NO_RANDOM, rules.RANDOM, "random", "draw from base::Rng"),
            (rules.NO_BARE_LOCK, rules.BARE_LOCK, "lock", "take base::Mutex, MutexLock and CondVar")):
        if any(within(path, folder) for folder in folders) and path not in rules.EXEMPT.get(rule, []):
            for match in pattern.finditer(code):
                yield Violation(path, code.count("\n", 0, match.start()) + 1, rule,
                                f"uses {match.group().strip()}: {advice}")


class Targets:
    """The libraries and programs of all CMakeLists.txt files with what they link."""

    def __init__(self):
        self.file = {}     # target -> its CMakeLists.txt
        self.folders = {}  # target -> folders of its sources
        self.links = {}    # target -> names it links directly

    def read(self, path, text):
        text = re.sub(r"#[^\n]*", "", text)
        for command, body in _CMAKE_COMMAND.findall(text):
            words = body.replace('"', " ").split()
            if command not in _LIBRARY_COMMANDS or not words or "ALIAS" in words:
                continue
            name = "espalier_" + words[0] if command == "espalier_library" else words[0]
            self.links.setdefault(name, [])
            sources, linked = self._split(command, words[1:])
            self.links[name] += linked
            if command != "target_link_libraries":
                self.file[name] = path
                folder = posixpath.dirname(path)
                self.folders[name] = {posixpath.dirname(posixpath.join(folder, source)) for source in sources}

    @staticmethod
    def _split(command, words):
        """The source files and the linked names among the words of a command."""
        linking, sources, linked = command == "target_link_libraries", [], []
        for word in words:
            if word in _CMAKE_KEYWORDS:
                linking = command == "target_link_libraries" or word in ("DEPS", "PRIVATE_DEPS")
            elif "$" not in word and linking:
                linked.append(word)
            elif word.endswith(rules.CODE_SUFFIXES):
                sources.append(word)
        return sources, linked

    @staticmethod
    def _target(name):
        return "espalier_" + name[len("Espalier::"):] if name.startswith("Espalier::") else name

    def reachable(self, name):
        """Everything `name` links, through any number of libraries, with the first link on the way."""
        found, waiting = {}, [(link, link) for link in self.links.get(name, [])]
        while waiting:
            link, first = waiting.pop()
            if link not in found:
                found[link] = first
                waiting += [(other, first) for other in self.links.get(self._target(link), [])]
        return found

    def check(self):
        for name, path in sorted(self.file.items()):
            for folder in sorted(self.folders[name]):
                yield from self._check_folder(name, path, folder)

    def _check_folder(self, name, path, folder):
        for link in self.links[name]:
            targets = self.folders.get(self._target(link), set())
            if not all(may_use(folder, target) for target in targets):
                yield Violation(path, 0, "link", f"{name} links {link}, which is not allowed in {folder}")
        for link, first in sorted(self.reachable(name).items()):
            for kind in rules_for(rules.NEVER, folder):
                pattern = rules.KINDS[kind][1]
                if pattern and pattern.match(link):
                    yield Violation(path, 0, "link-never", f"{name} reaches {link} through {first}: {kind} is not "
                                                           f"allowed in {folder}")


def check_sizes(path, text):
    lines = text.count("\n") + (not text.endswith("\n"))
    if path.endswith(rules.SIZED_SUFFIXES) and lines > rules.MAX_LINES:
        yield Violation(path, lines, "length", f"has {lines} lines; split it below {rules.MAX_LINES + 1}")


def check_machine_paths(path, text):
    for match in _MACHINE_PATH.finditer(text):
        yield Violation(path, text.count("\n", 0, match.start()) + 1, "machine-path",
                        f"names a path of one machine: {match.group()}")


def check_folders(files):
    folders = Counter(posixpath.dirname(path) for path in files)
    for folder, count in sorted(folders.items()):
        if count > rules.MAX_FILES_PER_FOLDER and not within(folder, "data"):
            yield Violation(folder, 0, "folder-size",
                            f"has {count} files; at most {rules.MAX_FILES_PER_FOLDER} belong in one folder")
    sources = {posixpath.dirname(path) for path in files
               if path.split("/")[0] in rules.SOURCE_ROOTS and path.endswith(rules.CODE_SUFFIXES)}
    for folder in sorted(sources):
        if posixpath.join(folder, "README.md") not in files:
            yield Violation(folder, 0, "readme", "has no README.md saying what lives here")


def check_tree(root):
    """All violations in the tree at `root`."""
    files = set(project_files(root))
    targets, violations = Targets(), []
    for path in sorted(files):
        with open(os.path.join(root, path), "rb") as stream:
            data = stream.read()
        if b"\0" in data:
            continue
        text = data.decode("utf-8", "replace")
        violations += check_machine_paths(path, text)
        violations += check_sizes(path, text)
        if path.endswith(rules.CODE_SUFFIXES):
            violations += check_source(path, text, files)
        if posixpath.basename(path) == "CMakeLists.txt" and not within(path, "tests"):
            targets.read(path, text)
    return violations + list(targets.check()) + list(check_folders(files))


def main():
    violations = check_tree(sys.argv[1] if len(sys.argv) > 1 else ROOT)
    for violation in violations:
        print(f"{violation.path}:{violation.line}: [{violation.rule}] {violation.message}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
