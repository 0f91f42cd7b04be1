#!/usr/bin/env python3
"""Writes the files of a folder as C++, compressed by gzip, for web_files.h.

    embed.py FOLDER OUT.cc

Two runs on the same files write the same source. A file whose kind no browser is told of is an error.
"""
import gzip
import hashlib
import pathlib
import sys

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
LINE_BYTES = 24


def literal(data):
    """`data` as string literals of C++, in octal, whose escapes end by themselves."""
    for start in range(0, len(data), LINE_BYTES):
        yield '    "' + "".join(f"\\{byte:03o}" for byte in data[start : start + LINE_BYTES]) + '"'


def write(folder, out):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths]
    if "index.html" not in names:
        sys.exit(f"embed.py: expected index.html in {folder}, found {names or 'no files'}")
    constants, rows = [], []
    for number, (path, name) in enumerate(zip(paths, names)):
        kind = TYPES.get(path.suffix)
        if kind is None:
            sys.exit(f"embed.py: expected a file of {', '.join(TYPES)}, found {name}; add its type to TYPES")
        data = path.read_bytes()
        packed = gzip.compress(data, 9, mtime=0)
        etag = hashlib.sha256(data).hexdigest()[:32]
        constants.append(f"constexpr char kFile{number}[] =\n" + "\n".join(literal(packed)) + ";\n")
        rows.append(f'    {{"{name}", "{kind}", "\\"{etag}\\"", {{kFile{number}, {len(packed)}}}}},\n')
    text = (
        "// Made by client/dashboard/embed.py.\n"
        '#include "client/dashboard/web_files.h"\n\n'
        "namespace espalier::dashboard {\nnamespace {\n\n"
        + "\n".join(constants)
        + "\nconstexpr WebFile kFiles[] = {\n"
        + "".join(rows)
        + "};\n\n}  // namespace\n\n"
        "std::span<const WebFile> WebFiles() { return kFiles; }\n\n"
        "}  // namespace espalier::dashboard\n"
    )
    out.write_text(text)
    total = sum(len(gzip.compress(path.read_bytes(), 9, mtime=0)) for path in paths)
    print(f"embed.py: {len(paths)} files, {total / 1000:.0f} kB compressed")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    write(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))


if __name__ == "__main__":
    main()
