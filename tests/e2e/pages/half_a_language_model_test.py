"""docs/half-a-language-model.md on a smaller model that learns for a moment: its commands, and what it promises."""

import contextlib
import dataclasses
import re
import unittest

import machines
from page import Page

from cluster import eventually

PAGE = "half-a-language-model.md"
METHODS = ("magnitude", "wanda", "sparsegpt", "dsnot")
# What makes the page's job small. Names of checkpoints end with the number of rounds and of blocks.
SMALLER = {
    "hidden: 128, blocks: 4, heads: 4": "hidden: 32, blocks: 4, heads: 4",
    "context: 128": "context: 32",
    "local_steps: 20": "local_steps: 2",
    "every_rounds: 10": "every_rounds: 60",
}
TEXT_BYTES = 40_000


class HalfALanguageModelTest(unittest.TestCase):
    def setUp(self):
        self.page = Page(PAGE)
        self.terminal = machines.Terminal(self.enterContext(contextlib.ExitStack()))

    def run_block(self, block):
        text = block.text
        if block.file:
            for large, small in SMALLER.items():
                text = text.replace(large, small)
        return self.terminal.do(dataclasses.replace(block, text=text))

    def do(self, heading):
        return [self.run_block(block) for block in self.page.take(heading)]

    def test_page(self):
        for small in SMALLER:
            self.assertIn(small, self.page.text)
        program, make, up = self.page.take("1. Text, and a cluster")
        self.run_block(program)
        self.run_block(make)
        text = self.terminal.folder / "data/manual/manual.txt"
        text.write_bytes(text.read_bytes()[:TEXT_BYTES])
        _, log = self.run_block(up)
        eventually("the cluster is up", lambda: "workers are running" in log.read_text())
        self.do("2. A model to prune")
        listed = self.do("3. A folder in Hugging Face's layout")[-1]
        self.assertIn("config.json\nmodel.safetensors\n", listed)
        pruned = self.do("4. Half of it")[-1]
        self.check_perplexities(pruned)
        written = self.do("6. What it writes")[-1]
        self.assertEqual(2, len(re.findall("^The statement ", written, re.M)), written)
        self.do("7. Taking it away")
        self.check_tuned(pruned, self.do("8. Training what is left")[1])
        self.assertEqual([], self.page.rest, "blocks that no test runs")
        sizes = [self.terminal.folder / name for name in ("half-model/model.safetensors", "sparsegpt-4.safetensors")]
        whole, sparse = (path.stat().st_size for path in sizes)
        self.assertLess(sparse, 0.8 * whole)

    def check_perplexities(self, shown):
        """Every method says the same before, and another one after; half of the weights is left."""
        before = re.findall(r"^perplexity before\s+([\d.]+)", shown, re.M)
        after = re.findall(r"^perplexity\s+([\d.]+)", shown, re.M)
        self.assertEqual((len(METHODS), 1), (len(before), len(set(before))), shown)
        self.assertEqual(len(METHODS), len(set(after)), shown)
        self.assertTrue(all(1 < float(value) < 256 for value in before + after), shown)
        self.assertEqual(["0.5"] * len(METHODS), re.findall(r"^density\s+(\S+)$", shown, re.M))

    def check_tuned(self, pruned, tuned):
        """Training what SparseGPT left makes it better, and no weight comes back."""
        before = re.search(r"^job\s+jobs/sparsegpt$.*?^perplexity\s+([\d.]+)", pruned, re.M | re.S).group(1)
        after = re.search(r"^perplexity\s+([\d.]+)", tuned, re.M).group(1)
        self.assertLess(float(after), float(before))
        self.assertEqual("0.5", re.search(r"^density\s+(\S+)$", tuned, re.M).group(1))
        self.assertRegex(tuned, re.compile("^The statement ", re.M))
        self.assertEqual(
            (self.terminal.folder / "models/manual/config.json").read_bytes(),
            (self.terminal.folder / "tuned-model/config.json").read_bytes(),
        )


if __name__ == "__main__":
    machines.enter()
    unittest.main()
