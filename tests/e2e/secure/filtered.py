#!/usr/bin/env python3
"""Runs a program with the system calls of systemd's @system-service alone, as SystemCallFilter=@system-service does.

    filtered.py errno|kill PROGRAM ARGUMENTS...

`errno`: any other call fails with EPERM, as with the units of deploy/systemd. `kill`: it ends the process at once (SIGSYS).
The list of calls is asked of `systemd-analyze`; the filter is the same classic BPF program that systemd would load, and
stays with all children.
"""

import ctypes
import errno
import functools
import os
import re
import struct
import subprocess
import sys

SET = "@system-service"
NUMBERS = ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h")

# From linux/audit.h, linux/seccomp.h, linux/filter.h and linux/prctl.h.
AUDIT_ARCH_X86_64 = 0xC000003E
RET_KILL, RET_ERRNO, RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
OFFSET_NUMBER, OFFSET_ARCH = 0, 4
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2


@functools.cache
def numbers():
    """The numbers of system calls by name, of this machine's headers."""
    for path in NUMBERS:
        if os.path.exists(path):
            with open(path, encoding="ascii") as header:
                return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header.read())}
    raise SystemExit(f"filtered: expected {NUMBERS[0]}, found none; install linux-libc-dev")


def calls_of(name, seen=None):
    """The calls of a set, those of the sets in it included."""
    seen = set() if seen is None else seen
    seen.add(name)
    text = subprocess.run(["systemd-analyze", "syscall-filter", name], text=True, capture_output=True, check=True).stdout
    found = set()
    for line in text.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            if word not in seen:
                found |= calls_of(word, seen)
        elif word and not word.startswith("#"):
            found.add(word)
    return found


def instruction(code, if_equal, otherwise, value):
    return struct.pack("HBBI", code, if_equal, otherwise, value)


def program(allowed, refuse):
    """Allows the calls with these numbers, and answers all others with `refuse`."""
    parts = [
        instruction(LOAD_WORD, 0, 0, OFFSET_ARCH),
        instruction(JUMP_EQUAL, 1, 0, AUDIT_ARCH_X86_64),
        instruction(RETURN, 0, 0, RET_KILL),
        instruction(LOAD_WORD, 0, 0, OFFSET_NUMBER),
    ]
    for number in sorted(allowed):
        parts += [instruction(JUMP_EQUAL, 0, 1, number), instruction(RETURN, 0, 0, RET_ALLOW)]
    return b"".join([*parts, instruction(RETURN, 0, 0, refuse)])


def install(mode):
    known = numbers()
    allowed = {known[name] for name in calls_of(SET) if name in known}
    code = program(allowed, {"errno": RET_ERRNO | errno.EPERM, "kill": RET_KILL}[mode])
    buffer = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, described) != 0:
        raise SystemExit(f"filtered: the kernel does not take the filter: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    install(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])
