"""Tables as spreadsheets, pandas and people write them: trained on, or refused with the place and the remedy."""

import json
import pathlib
import random
import statistics
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
import datasets

CENTERS = {"ant": (0, 0), "bee": (8, 0), "cat": (0, 8)}
NUMBER = {name: number for number, name in enumerate(CENTERS)}
HEADER = ("x", "y", "kind")


def rows(count=90, seed=1, names=tuple(CENTERS)):
    """Clusters that straight lines separate, as texts: x, y and the name of the class."""
    source = random.Random(seed)
    result = []
    for i in range(count):
        name = names[i % len(names)]
        x, y = (center + source.gauss(0, 1) for center in CENTERS[name])
        result.append((f"{x:.3f}", f"{y:.3f}", name))
    return result


def table(lines, header=HEADER, delimiter=",", end="\n"):
    return "".join(delimiter.join(map(str, cells)) + end for cells in ((header,) if header else ()) + tuple(lines))


def numbered(lines, text=lambda number: number):
    return [(x, y, text(NUMBER[name])) for x, y, name in lines]


def with_cell(cell):
    """The table with another cell in line 7, column 1."""
    lines = rows()
    lines[5] = (cell, *lines[5][1:])
    return table(lines)


def sized_rows(count=90, seed=1):
    """The same with columns of very different size: one far from zero, one of noise, one that never changes."""
    noise = random.Random(seed)
    lines = rows(count, seed)
    return [
        (float(x) / 1000, f"{float(y) * 10 + 1e5:.2f}", f"{noise.uniform(0, 2000):.0f}", 2024, kind)
        for x, y, kind in lines
    ]


def indexed(lines):
    return [(i, *cells) for i, cells in enumerate(lines)]


WORDS = list(CENTERS)
# Name: files, and the names of the classes that the sites agree on (none where labels are numbers).
READ = {
    "bom-semicolons-quoted-line-ends": (
        "\ufeff" + table([(x, y, f'"{name}\nsmall"') for x, y, name in rows()], delimiter=";", end="\r\n"),
        [f"{name}\nsmall" for name in WORDS],
    ),
    "carriage-returns-alone": (table(rows(), end="\r"), WORDS),
    "blank-lines": ("\n\n" + table(rows(), end="\n\n"), WORDS),
    "separator-line": ("sep=;\r\n" + table(rows(), delimiter=";", end="\r\n"), WORDS),
    "tabs": (table(rows(), delimiter="\t"), WORDS),
    "latin-1": (
        table([(x, y, name.replace("bee", "bär")) for x, y, name in rows()]).encode("latin-1"),
        ["ant", "bär", "cat"],
    ),
    "everything-quoted": (table([[f'"{cell}"' for cell in cells] for cells in rows()]), WORDS),
    "labels-with-blanks": (
        table([(x, y, f"  big {name} ") for x, y, name in rows()]),
        [f"big {name}" for name in WORDS],
    ),
    "duplicate-column-names": (table(rows(), header=("x", "x", "kind")), WORDS),
    "header-as-pandas-numbers-columns": (table(numbered(rows()), header=("0", "1", "label")), []),
    "labels-as-numpy-saves-them": (table(numbered(rows(), lambda number: f"{number:.18e}")), []),
    "labels-with-a-fraction-of-zero": (table(numbered(rows(), lambda number: f"{number}.0")), []),
    "header-with-a-number-sign": (table(rows(), header=("# x", "y", "kind")), WORDS),
    "capital-letters": ({"TABLE.CSV": table(rows())}, WORDS),
    "thumbnails-beside": ({"a.csv": table(rows()), "Thumbs.db": "x", ".DS_Store": "x", "README.md": "x"}, WORDS),
    "test-with-columns-in-another-order": (
        {
            "train.csv": table(rows()),
            "test.csv": table([cells[::-1] for cells in rows(30, 2)], header=HEADER[::-1]),
        },
        WORDS,
    ),
    "test-with-another-delimiter": (
        {"train.csv": table(rows()), "test.csv": table(rows(30, 2), delimiter=";")},
        WORDS,
    ),
}

# Name: files, and words of the refusal.
REFUSED = {
    "utf-16": (table(rows()).encode("utf-16"), ["line 1", "UTF-16", "iconv"]),
    "header-only": ("x,y,kind\n", ["none below the names of the columns"]),
    "nothing": ("", ["an empty file"]),
    "comments-at-the-top": ("# ants, 2024\n# by hand\n" + table(rows()), ["line 1", "a comment: '# ants'"]),
    "comment-of-one-cell": ("% ants\n" + table(rows()), ["line 1", "a comment", "remove the lines"]),
    "comment-in-the-middle": (table(rows(40)) + "# more\n" + table(rows(40), header=None), ["line 42"]),
    "total-at-the-end": (table(rows()) + "90 examples\n", ["line 92", "totals"]),
    "delimiter-at-line-ends": (
        table([(*cells, "") for cells in rows()], header=(*HEADER, "")),
        ["line 2, column 3 ('kind')", "data.label_column"],
    ),
    "delimiter-at-line-ends-but-not-of-the-header": (
        table([(*cells, "") for cells in rows()]),
        ["line 2", "3 columns as in the first line", "found 4"],
    ),
    "decimal-commas": (
        table([(x.replace(".", ","), y, name) for x, y, name in rows()], delimiter=";"),
        ["line 2, column 1 ('x')", "a decimal point"],
    ),
    "thousands": (with_cell('"1,234"'), ["line 7, column 1 ('x')", "1234 in place of 1,234"]),
    "thousands-and-decimal-comma": (
        table([("1.234,5", y.replace(".", ","), name) for _, y, name in rows()], delimiter=";"),
        ["'1.234,5'", "without marks of thousands"],
    ),
    "blanks-in-numbers": (with_cell("1 234"), ["'1 234'", "without marks of thousands, blanks"]),
    "percent": (with_cell("12%"), ["'12%'", "percent signs"]),
    "minus-sign-of-typographers": (with_cell("\u22121.5"), ["line 7, column 1", "numbers like -1234.5"]),
    "not-a-number": (with_cell("NaN"), ["line 7, column 1 ('x')", "data.missing"]),
    "infinity": (with_cell("-inf"), ["line 7, column 1 ('x')", "3.4e38"]),
    "too-large-for-float32": (with_cell("1e39"), ["line 7, column 1 ('x')", "3.4e38"]),
    "dates": (with_cell("2024-01-31"), ["line 7, column 1 ('x')", "dates as numbers"]),
    "dates-of-the-united-states": (with_cell("1/31/2024"), ["line 7", "dates as numbers"]),
    "word-among-numbers": (with_cell("high"), ["line 7, column 1 ('x')", "data.words"]),
    "word-among-labels": (
        table([*numbered(rows()), ("1", "1", "cat")]),
        ["line 92, column 3", "labels of one kind", "line 2"],
    ),
    "words-in-the-test-file-only": (
        {"train.csv": table(numbered(rows())), "test.csv": table(rows(30, 2))},
        ["labels of one kind", "line 2 of words-in-the-test-file-only/train.csv"],
    ),
    "negative-labels": (table(numbered(rows(), lambda number: number - 1)), ["line 2", "number the classes from 0"]),
    "huge-labels": (table(numbered(rows(), lambda number: number * 10**9)), ["line 3", "1000000000"]),
    "fractions-as-labels": (table(numbered(rows(), lambda number: number + 0.5)), ["line 2", "data.target to values"]),
    "test-without-a-column": (
        {"train.csv": table(rows()), "test.csv": table([cells[1:] for cells in rows(30, 2)], header=HEADER[1:])},
        ["test.csv, line 1", "none called 'x'"],
    ),
    "several-tables": ({"a.csv": table(rows()), "b.csv": table(rows())}, ["a.csv, b.csv"]),
    "zero-bytes": (table(rows())[:200] + "\0" + table(rows())[200:], ["line 13", "a zero byte"]),
    "a-page-of-an-error": ("<html><body>404</body></html>\n", ["line 1", "at least 2 columns"]),
    "other-files": ({"notes.doc": "x", "table.ods": "x"}, ["none of them among 'notes.doc', 'table.ods'"]),
}


def job(dataset, **data):
    """Neither inputs nor outputs of the model are typed: the data says them."""
    return {
        "model": {"layers": [{"linear": {"units": 16, "activation": "relu"}}, {"linear": {}}]},
        "data": {"dataset": dataset, "partition": {"kind": "iid", "shards": 2}} | data,
        "method": {"name": "dense"},
        "training": {"batch_size": 8, "local_epochs": 2, "optimizer": {"kind": "sgd", "learning_rate": 0.05}},
        "federation": {"rounds": 10},
    }


def write(root, name, files):
    datasets.write_files(root, name, files if isinstance(files, dict) else {"data.csv": files})


class TablesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        for name, (files, _) in (READ | REFUSED).items():
            write(cls.root, name, files)
        cls.write_labels_first()
        write(cls.root, "numbers-in-the-first-line", table(numbered(rows()), header=("0", "1", "2")))
        write(cls.root, "class-in-the-test-file-only", cls.class_only_in_test())
        sized = {"train.csv": sized_rows(), "test.csv": sized_rows(30, 2)}
        header = ("x", "y", "noise", "year", "kind")
        write(cls.root, "sizes", {file: table(lines, header=header) for file, lines in sized.items()})
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2, data_root=cls.root))

    @classmethod
    def write_labels_first(cls):
        """The label in the first column; the last one of each would pass for a label."""
        lines = [(name, x, y) for x, y, name in rows()]
        write(cls.root, "words-first", table(lines, header=None))
        whole = [(NUMBER[name], round(float(x)), round(float(y)) + 3) for x, y, name in rows()]
        write(cls.root, "numbers-first", table(whole, header=None))
        fractions = [(NUMBER[name], x, y) for x, y, name in rows()]
        write(cls.root, "numbers-first-fraction-last", table(fractions, header=None))

    @staticmethod
    def class_only_in_test():
        return {"train.csv": table(rows(60, 1, ("ant", "bee"))), "test.csv": table(rows(30, 2))}

    def train(self, name, **data):
        if not (self.root / name / "train.csv").exists():
            data = {"test_fraction": 0.2} | data
        return self.cluster.run(job(name, **data))

    def refusal(self, name, **data):
        (violation,) = self.cluster.violations(job(name, **data))
        return violation["description"]

    def check(self, trained, classes, features=2):
        self.assertEqual(features, trained["spec"]["model"]["input_features"])
        self.assertEqual(classes, trained["spec"]["data"]["agreement"]["classes"])
        self.assertEqual(3, trained["spec"]["model"]["layers"][-1]["linear"]["units"])
        self.assertGreater(trained["history"][-1]["test_accuracy"], 0.9)

    def test_spellings_that_are_read(self):
        for name, (_, classes) in READ.items():
            with self.subTest(name):
                self.check(self.train(name), classes)

    def test_spellings_that_are_refused_say_where_and_what_to_do(self):
        for name, (_, words) in REFUSED.items():
            with self.subTest(name):
                text = self.refusal(name)
                for word in words:
                    self.assertIn(word, text)

    def test_label_in_the_first_column(self):
        for name, classes in (("words-first", WORDS), ("numbers-first", []), ("numbers-first-fraction-last", [])):
            with self.subTest(name):
                self.check(self.train(name, label_column="0"), classes)

    def test_columns_of_any_size_are_normalised_over_all_participants(self):
        trained = self.train("sizes", normalization="federated", partition={"kind": "classes", "shards": 3})
        self.assertGreater(trained["history"][-1]["test_accuracy"], 0.9)
        data = trained["spec"]["data"]
        columns = list(zip(*[[float(cell) for cell in row[:-1]] for row in sized_rows()]))
        for column, mean, deviation in zip(columns, data["channel_mean"], data["channel_std"], strict=True):
            self.assertAlmostEqual(1, mean / statistics.fmean(column), places=5)
            self.assertAlmostEqual(1, deviation / (statistics.pstdev(column) or 1), places=4)

    def test_columns_are_measured_by_any_number_of_participants(self):
        """Mean squares of which 2^42 is not enough for the sum of all, and each alone is below 2^36."""
        lines = [(250_000 if i % 2 else -250_000, *cells[1:]) for i, cells in enumerate(rows())]
        write(self.root, "salaries", {"train.csv": table(lines), "test.csv": table(lines)})
        own = self.enterContext(cluster.Cluster(workers=2, data_root=self.root))
        trained = own.run(job("salaries", normalization="federated", partition={"kind": "iid", "shards": 90}))
        self.assertAlmostEqual(1, trained["spec"]["data"]["channel_std"][0] / 250_000, places=6)

    def test_first_line_of_numbers_is_what_the_job_says(self):
        name = "numbers-in-the-first-line"
        self.assertIn("set data.header to present", self.refusal(name))
        trained = self.train(name, header="present")
        self.check(trained, [])
        self.assertEqual("2", trained["spec"]["data"]["agreement"]["label_column"])

    def test_class_that_only_the_test_file_has_is_a_class(self):
        trained = self.train("class-in-the-test-file-only")
        self.assertEqual(WORDS, trained["spec"]["data"]["agreement"]["classes"])
        # None of its examples, a third, can be right.
        self.assertGreater(trained["history"][-1]["test_accuracy"], 0.6)
        self.assertLessEqual(trained["history"][-1]["test_accuracy"], 2 / 3)

    def test_missing_values_are_left_out_when_the_job_says_so(self):
        trained = self.train("not-a-number", missing="drop", test_fraction=0)
        self.assertEqual(89, trained["history"][-1]["examples"])


class BatchNormTest(unittest.TestCase):
    """A batch norm after a linear layer has nothing to learn from a batch of one."""

    def setUp(self):
        root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        write(root, "odd", {"train.csv": table(rows(49)), "test.csv": table(rows(30, 2))})
        self.cluster = self.enterContext(cluster.Cluster(workers=2, data_root=root))
        self.job = job("odd")
        self.job["model"]["layers"].insert(1, {"batch_norm": {"activation": "relu"}})

    def test_a_last_batch_of_one_is_no_harm(self):
        self.job["data"]["partition"] = {"kind": "iid", "shards": 1}
        for size in (16, 17):
            with self.subTest(size):
                self.job["training"]["batch_size"] = size
                self.assertGreater(self.cluster.run(self.job)["history"][-1]["test_accuracy"], 0.9)

    def test_shards_of_one_example_are_refused_by_name(self):
        for shards in (49, 48):
            with self.subTest(shards):
                self.job["data"]["partition"] = {"kind": "iid", "shards": shards}
                name = self.cluster.submit(self.job)["name"]
                message = self.cluster.wait_state(name, "FAILED")["failure_message"]
                for word in ("at least 2 training examples on shard", "found 1", "fewer shards"):
                    self.assertIn(word, message)


class ImagesTest(unittest.TestCase):
    """Folders of images by class, with what operating systems leave there."""

    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for kind, level in (("dark", 20), ("light", 200)):
            folder = self.root / "shades" / kind
            folder.mkdir(parents=True)
            for i in range(12):
                values = bytes(level + (3 * i + place) % 20 for place in range(datasets.DIGIT_SIDE**2))
                (folder / f"{i}.png").write_bytes(datasets.png(values))

    def start(self):
        self.cluster = self.enterContext(cluster.Cluster(workers=1, data_root=self.root))

    def job(self, **model):
        shades = job("shades", scale=255, test_fraction=0.25)
        shades["model"] |= model
        return shades

    def refusal(self, shades):
        return json.dumps(self.cluster.violations(shades), ensure_ascii=False)

    def test_thumbnails_and_notes_of_systems_are_no_images(self):
        for path in ("Thumbs.db", "desktop.ini", ".DS_Store", "dark/Thumbs.db", "dark/.DS_Store"):
            (self.root / "shades" / path).write_text("x")
        self.start()
        trained = self.cluster.run(self.job())
        self.assertEqual(["dark", "light"], trained["spec"]["data"]["agreement"]["classes"])
        self.assertEqual(18, trained["history"][-1]["examples"])
        self.assertEqual(1, trained["history"][-1]["test_accuracy"])

    def test_other_files_are_named(self):
        for path, content in (("dark/a.gif", b"GIF89a"), ("light/b.png", b"no image")):
            with self.subTest(path):
                (self.root / "shades" / path).write_bytes(content)
                self.start()
                self.assertIn(path, self.refusal(self.job()))
                (self.root / "shades" / path).unlink()

    def test_images_of_another_shape_do_not_fit_though_they_have_as_many_values(self):
        self.start()
        layers = [{"conv2d": {"channels": 2}}, {"global_avg_pool": {}}, {"linear": {"units": 2}}]
        shape = {"channels": 1, "height": 4, "width": 16}
        text = self.refusal(self.job(input_image=shape, input_features=64, layers=layers))
        for word in ("model.input_image", "1 × 8 × 8", "1 × 4 × 16"):
            self.assertIn(word, text)


if __name__ == "__main__":
    unittest.main()
