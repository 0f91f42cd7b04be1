#!/usr/bin/env python3
"""Lists the project's own files: tracked ones and new ones that .gitignore does not exclude.

    files.py [SUFFIX ...]     one path per line, relative to the project root; all files without suffixes
"""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIPPED_FOLDERS = {".git", "build", "node_modules", "__pycache__"}


def _walk(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root)


def project_files(root=ROOT):
    """Returns the sorted relative paths of all project files below `root`."""
    if os.path.exists(os.path.join(root, ".git")):
        listing = subprocess.run(
            ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True, capture_output=True, text=True).stdout
        paths = {path for path in listing.split("\0") if path}
    else:  # a source archive
        paths = set(_walk(root))
    return sorted(path for path in paths if os.path.isfile(os.path.join(root, path)))


def main():
    suffixes = tuple(sys.argv[1:])
    for path in project_files():
        if not suffixes or path.endswith(suffixes):
            print(path)


if __name__ == "__main__":
    main()
