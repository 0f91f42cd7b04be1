"""docs/my-csv.md: a table, a network, and a program that names the classes of lines; and what is said when a field is missing."""

import contextlib
import json
import random
import re
import unittest

import machines
from page import Page

from cluster import eventually

LINES = {  # a line of the job file, and what the error says without it
    "label_column: species": "expected labels of classes, numbered from 0",
    "words: one_hot": "column 1 ('island'): expected a finite number",
    "missing: mean": "column 2 ('bill_mm'): expected a finite number, found 'NA'",
}


class MyCsvTest(unittest.TestCase):
    def setUp(self):
        self.page = Page("my-csv.md")
        self.terminal = machines.Terminal(self.enterContext(contextlib.ExitStack()))

    def do(self, heading):
        return [self.terminal.do(block) for block in self.page.take(heading)]

    def test_page(self):
        self.do("1. The table")
        self.do("2. What to do to it first")
        self.look()
        shown = self.do("4. Training, and reading the result")[-1]
        self.assertGreater(float(re.search(r"best accuracy\s+([\d.]+)", shown)[1]), 90)
        shown = self.do("5. Using the model in Python")[-1]
        self.assertIn("'Adelie', 'flipper_mm'", shown)
        self.assertGreater(float(re.search(r"right: ([\d.]+)", shown)[1]), 0.9)
        self.assertAlmostEqual(self.reported(), self.share_of_held_out_lines(), places=6)
        self.up.terminate()
        self.up.wait(10)
        shown = self.run_sites()
        self.assertGreater(float(re.search(r"best accuracy\s+([\d.]+)", shown)[1]), 90)
        self.assertEqual([], self.page.rest, "blocks that no test runs")

    def reported(self):
        job = json.loads(self.terminal.run("espalier job get penguins -o json"))
        return job["history"][-1]["test_accuracy"]

    def share_of_held_out_lines(self):
        """Of which prepare.py has made the last fifth: it shuffles with a seed of its own."""
        header, *lines = (self.terminal.folder / "penguins.csv").read_text().splitlines()
        random.Random(1).shuffle(lines)
        self.terminal.write("held-out.csv", "\n".join([header, *lines[-len(lines) // 5 :]]) + "\n")
        shown = self.terminal.run("venv/bin/python predict.py penguins-60.safetensors held-out.csv")
        return float(re.search(r"right: ([\d.]+)", shown)[1])

    def run_sites(self):
        coordinator, program, divide, *workers, submit = self.page.take("6. Several sites, each with its own table")
        self.run_until("listening", coordinator)
        self.terminal.do(program)
        self.terminal.do(divide)
        for worker in workers:
            self.run_until(" registered ", worker)
        return self.terminal.do(submit)

    def run_until(self, word, block):
        process, log = self.terminal.do(block)
        eventually(f"{word} after {block.text}", lambda: word in log.read_text())
        return process

    def look(self):
        up, describe, job, dry_run = self.page.take("3. What Espalier sees, and what it refuses")
        self.up = self.run_until("workers are running", up)
        self.assertIn("column 1 ('island')", self.terminal.do(describe))
        self.terminal.do(job)
        self.assertIn("valid", self.terminal.do(dry_run))
        for line, words in LINES.items():
            with self.subTest(line):
                shown = self.terminal.run(
                    f"grep -v '{line}' job.yaml >without.yaml\n"
                    "espalier job submit without.yaml --dry-run 2>&1 || echo code $?"
                )
                self.assertIn("code 2", shown)
                self.assertIn(words, shown)


if __name__ == "__main__":
    machines.enter()
    unittest.main()
