"""A command on a terminal of its own, and what a person sees there.

The screen understands what the command line writes: text, carriage return, line feed, cursor up and
the two ways of erasing. Anything else is an error, so that a new control sequence is a decision.
"""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

import cluster

_TOKEN = re.compile(r"\x1b\[(\d*)([A-Za-z])|([\r\n])|([^\x00-\x1f]+)")


class Screen:
    """Rows of text; the whole history, not only what fits on the terminal."""

    def __init__(self):
        self.rows = [""]
        self._row = self._column = 0

    def write(self, text):
        end = 0
        for token in _TOKEN.finditer(text):
            if token.start() != end:
                break
            end = token.end()
            count, command, control, plain = token.groups()
            if plain:
                self._put(plain)
            elif control == "\r":
                self._column = 0
            elif control == "\n":
                self._row += 1
                if self._row == len(self.rows):
                    self.rows.append("")
            elif command == "A":
                self._row = max(0, self._row - int(count or 1))
            elif command == "K" and not count:
                self.rows[self._row] = self.rows[self._row][: self._column]
            elif command == "J" and not count:
                self.rows[self._row :] = [self.rows[self._row][: self._column]]
            elif command == "m":
                pass
            else:
                raise AssertionError(f"unexpected control sequence: {token.group()!r}")
        if end != len(text):
            raise AssertionError(f"unexpected control characters: {text[end : end + 20]!r}")

    def _put(self, text):
        row = self.rows[self._row].ljust(self._column)
        self.rows[self._row] = row[: self._column] + text + row[self._column + len(text) :]
        self._column += len(text)

    @property
    def text(self):
        return "\n".join(row.rstrip() for row in self.rows)


class Terminal(contextlib.ExitStack):
    """Runs `espalier` on a terminal of `columns`; killed when the context ends."""

    def __init__(self, *arguments, columns=80, **environment):
        super().__init__()
        self.raw = ""
        self._bytes = b""
        self._master, slave = pty.openpty()
        self.callback(os.close, self._master)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._slave = slave
        self.callback(os.close, slave)
        self.modes = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [cluster.BIN / "espalier", *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=self._own_terminal,
            env=os.environ | {"TERM": "xterm", "COLUMNS": ""} | environment,
        )
        self.callback(self._kill)

    def _own_terminal(self):
        cluster.die_with_parent()
        fcntl.ioctl(self._slave, termios.TIOCSCTTY, 0)

    def _kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(cluster.DEADLINE_S)

    def _read(self, seconds):
        """More of what was written; False when nothing came."""
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        self._bytes += os.read(self._master, 65536)
        self.raw = self._bytes.decode(errors="ignore")
        return True

    def read_until(self, pattern, seconds=cluster.DEADLINE_S):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.raw):
            if not self._read(max(0, end - time.monotonic())):
                raise AssertionError(f"not on the terminal: {pattern}\n{self.raw!r}")

    def read_to_end(self, seconds=cluster.DEADLINE_S):
        """The exit code, once all was read."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            self._read(0.05)
            if time.monotonic() > end:
                raise AssertionError(f"still running after {seconds} s: {self.raw!r}")
        while self._read(0):
            pass
        return self.process.returncode

    def press_enter(self):
        os.write(self._master, b"\n")

    def press_ctrl_c(self):
        os.write(self._master, b"\x03")

    def modes_now(self):
        return termios.tcgetattr(self._slave)

    @property
    def screen(self):
        return self._shown(self.raw)

    def screen_before(self, sequence):
        """The screen before `sequence` was written last: a whole frame."""
        return self._shown(self.raw[: self.raw.rindex(sequence)])

    @staticmethod
    def _shown(text):
        screen = Screen()
        screen.write(text)
        return screen.text
