"""The commands of a documentation page, so that a test runs what people read.

A fenced block is for the test when its language is sh, or when it names a file. Words may follow the language:

    ```sh                         commands, in order
    ```sh on=hub                  on the machine `hub`; on=north,south: on both
    ```sh on=hub stays            one command that runs until it is stopped
    ```python on=north file=a.py  a file that the reader writes there

All other blocks are for people: what commands print, commands for another system, parts of files.
Blocks belong to the heading above them.
"""

import dataclasses
import pathlib
import re

DOCS = pathlib.Path(__file__).parents[3] / "docs"
_PARTS = re.compile(r"^(?:##+ (?P<heading>[^\n]+)|```(?P<language>\w+)(?P<words>[^\n]*)\n(?P<text>.*?)^```)$", re.M | re.S)


@dataclasses.dataclass(frozen=True)
class Block:
    heading: str
    machines: tuple
    text: str
    file: str | None
    stays: bool


class Page:
    """Hands out the blocks by heading; `rest` has the headings whose blocks were not asked for."""

    def __init__(self, name):
        self.text = (DOCS / name).read_text()
        self._blocks = {}
        heading = ""
        for part in _PARTS.finditer(self.text):
            if part["heading"]:
                heading = part["heading"]
                continue
            words = dict(word.partition("=")[::2] for word in part["words"].split())
            if part["language"] == "sh" or "file" in words:
                block = Block(
                    heading,
                    tuple(words.pop("on", "here").split(",")),
                    part["text"],
                    words.pop("file", None),
                    words.pop("stays", None) is not None,
                )
                if words:
                    raise AssertionError(f"{name}, {heading}: unknown words {sorted(words)}")
                self._blocks.setdefault(heading, []).append(block)

    def take(self, heading):
        """The blocks under a heading, in order."""
        if heading not in self._blocks:
            raise AssertionError(f"no blocks to run under {heading!r}; there are {self.rest}")
        return self._blocks.pop(heading)

    @property
    def rest(self):
        return list(self._blocks)
