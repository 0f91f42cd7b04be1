#!/usr/bin/env python3
"""Refuses changes of the public protocol that break programs which were written for the last release.

Additions are free. Prints one line for each break and ends with 1 when there is one.
"""

import sys

import descriptors

# What makes a field another one, for the wire or for generated code.
_FIELD = ("name", "type", "type_name", "label", "proto3_optional", "default_value", "extendee")
_FIELD_OPTIONS = ("packed", "ctype", "jstype")
_METHOD = ("input_type", "output_type", "client_streaming", "server_streaming")
# Of files: those that decide on names in generated code.
_FILE_OPTIONS = (
    "go_package", "java_package", "java_outer_classname", "java_multiple_files", "csharp_namespace",
    "objc_class_prefix", "php_namespace", "ruby_package", "swift_prefix", "cc_enable_arenas", "optimize_for",
)


def _by(messages, key):
    return {message.get(key): message for message in messages}


def _difference(where, what, old, new):
    return f"{where}: {what} was {old or 'not set'}, is {new or 'not set'}"


def _option(message, name):
    options = message.get("options", None)
    return options.get(name) if options is not None else ""


def _same(where, old, new, names):
    for name in names:
        if old.get(name) != new.get(name):
            yield _difference(where, name, old.get(name), new.get(name))


def _same_options(where, old, new, names):
    for name in names:
        if _option(old, name) != _option(new, name):
            yield _difference(where, f"option {name}", _option(old, name), _option(new, name))


def _reserved_numbers(message, inclusive):
    numbers = set()
    for reserved in message.all("reserved_range"):
        end = int(reserved.get("end")) + (1 if inclusive else 0)
        numbers.update(range(int(reserved.get("start")), end))
    return numbers


def _oneof(message, field):
    """The name of the oneof that a field is a member of, "" for others; `optional` is a oneof only inside."""
    index = field.get("oneof_index")
    if index == "" or field.get("proto3_optional") == "true":
        return ""
    return message.all("oneof_decl")[int(index)].get("name")


def _fields(where, old, new):
    now = _by(new.all("field"), "number")
    reserved = _reserved_numbers(new, inclusive=False)
    for number, field in _by(old.all("field"), "number").items():
        name = f"{where}.{field.get('name')}"
        if number in now:
            yield from _same(name, field, now[number], _FIELD)
            yield from _same_options(name, field, now[number], _FIELD_OPTIONS)
            if _oneof(old, field) != _oneof(new, now[number]):
                yield _difference(name, "its oneof", _oneof(old, field), _oneof(new, now[number]))
        elif int(number) not in reserved or field.get("name") not in new.all("reserved_name"):
            yield f"{name}: was removed, and its number {number} and name are not both reserved"
    yield from _kept_reserved(where, old, new, inclusive=False)


def _kept_reserved(where, old, new, inclusive):
    freed = _reserved_numbers(old, inclusive) - _reserved_numbers(new, inclusive)
    for number in sorted(freed):
        yield f"{where}: number {number} is not reserved any more; older programs may still send it"
    for name in sorted(set(old.all("reserved_name")) - set(new.all("reserved_name"))):
        yield f"{where}: name {name} is not reserved any more"


def _enum(where, old, new):
    now = _by(new.all("value"), "name")
    for name, value in _by(old.all("value"), "name").items():
        if name not in now:
            yield f"{where}.{name}: was removed"
        elif value.get("number") != now[name].get("number"):
            yield _difference(f"{where}.{name}", "its number", value.get("number"), now[name].get("number"))
    yield from _kept_reserved(where, old, new, inclusive=True)


def _message(where, old, new):
    yield from _fields(where, old, new)
    yield from _children(where, old, new, "nested_type", _message)
    yield from _children(where, old, new, "enum_type", _enum)


def _service(where, old, new):
    def method(name, before, after):
        yield from _same(name, before, after, _METHOD)

    yield from _children(where, old, new, "method", method)


def _children(where, old, new, kind, compare, others=()):
    """Compares each child of `old` with that of its name in `new`, or else in one of `others`."""
    now = {}
    for holder in (*others, new):
        now.update(_by(holder.all(kind), "name"))
    for name, child in _by(old.all(kind), "name").items():
        path = f"{where}.{name}" if where else name
        if name in now:
            yield from compare(path, child, now[name])
        else:
            yield f"{path}: was removed, renamed or moved to another file"


def _passed_on(file, files):
    """The files that `file` imports publicly, also through others: generated code of `file` has their names, too."""
    found = {}
    waiting = [file]
    while waiting:
        importer = waiting.pop()
        for index in importer.all("public_dependency"):
            name = importer.all("dependency")[int(index)]
            if name in files and name not in found:
                found[name] = files[name]
                waiting.append(files[name])
    return list(found.values())


def _takes_over(old, other):
    """Whether generated code names a message the same in `other`, a file that `old` imports publicly.

    Java's classes are within an outer class that is named after their file, unless each has a file of its own.
    """
    names = [name for name in _FILE_OPTIONS if name != "java_outer_classname"]
    return (
        old.get("package") == other.get("package")
        and _option(other, "java_multiple_files") == "true"
        and not list(_same("", old, other, ("syntax", "edition")))
        and not list(_same_options("", old, other, names))
    )


def _file(where, old, new, files):
    yield from _same(where, old, new, ("package", "syntax", "edition"))
    yield from _same_options(where, old, new, _FILE_OPTIONS)
    package = old.get("package")
    others = [other for other in _passed_on(new, files) if _takes_over(old, other)]
    yield from _children(package, old, new, "message_type", _message, others)
    yield from _children(package, old, new, "enum_type", _enum, others)
    yield from _children(package, old, new, "service", _service)


def breaks(old, new):
    """Yields a line for each change from `old` to `new`, two parsed sets, that breaks older programs."""
    files = _by(new.all("file"), "name")

    def file(where, before, after):
        return _file(where, before, after, files)

    yield from _children("", old, new, "file", file)


def main():
    recorded = descriptors.parse(descriptors.RECORDED.read_text(encoding="utf-8"))
    found = list(breaks(recorded, descriptors.parse(descriptors.describe(descriptors.ROOT / "proto"))))
    for line in found:
        print(line)
    if found:
        print(f"{len(found)} changes break programs of the last release; tests/golden/proto/README.md says what to do")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
