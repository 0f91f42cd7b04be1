"""The boards of deploy/grafana: what is committed is what boards.py makes, and Prometheus answers all that they ask."""

import importlib.util
import json
import pathlib
import re
import sys
import unittest

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "secure"))

import cluster
from cluster import ENDLESS, digits_job, eventually
from monitored import DEPLOY, Prometheus
from rules_test import rules
from security import Secured

GRAFANA = DEPLOY / "grafana"
# What is rightly without an answer where nothing is wrong, by board and panel.
CALM = {
    ("espalier-fleet", "Failures of jobs"): "no job failed",
    ("espalier-rounds", "Why results are refused"): "none is refused",
    ("espalier-coordinator", "Calls that failed"): "none failed",
    ("espalier-coordinator", "Refused at the door"): "nobody is refused",
}
# What Grafana puts in their place.
VARIABLES = {"$__rate_interval": "4s", "$worker": ".*"}


def boards():
    for file in sorted((GRAFANA / "dashboards").glob("*.json")):
        yield json.loads(file.read_text(encoding="utf-8"))


def queries():
    """(board, panel, expression) of all that is asked, with the variables in place."""
    for board in boards():
        for panel in board["panels"]:
            for target in panel["targets"]:
                expression = target["expr"]
                for name, value in VARIABLES.items():
                    expression = expression.replace(name, value)
                yield board["uid"], panel["title"], expression


def metrics(expression):
    return set(re.findall(r"\b(?:[a-z_]+:)?(?:espalier|process)_[a-z0-9_:]+|\bup\b", expression))


class FilesTest(unittest.TestCase):
    def test_boards_are_as_their_program_makes_them(self):
        spec = importlib.util.spec_from_file_location("boards", GRAFANA / "boards.py")
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        self.assertEqual({f"{board.uid}.json" for board in made.BOARDS}, {file.name for file in (GRAFANA / "dashboards").glob("*.json")})
        for board in made.BOARDS:
            self.assertEqual(board.text(), (GRAFANA / f"dashboards/{board.uid}.json").read_text(), "write it anew: deploy/grafana/boards.py")

    def test_each_is_one_screen_and_of_one_source(self):
        [source] = yaml.safe_load((GRAFANA / "datasources/prometheus.yaml").read_text())["datasources"]
        for board in boards():
            self.assertEqual({source["uid"]}, {panel["datasource"]["uid"] for panel in board["panels"]})
            self.assertLessEqual(max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]), 20, board["uid"])
            self.assertEqual({"stat"}, {panel["type"] for panel in board["panels"] if panel["gridPos"]["y"] == 0})
            used = set(re.findall(r"\$\w+", " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])))
            self.assertLessEqual(used, set(VARIABLES))

    def test_nobody_changes_them_in_the_browser(self):
        [source] = yaml.safe_load((GRAFANA / "datasources/prometheus.yaml").read_text())["datasources"]
        [provider] = yaml.safe_load((GRAFANA / "dashboards/provider.yaml").read_text())["providers"]
        self.assertEqual((False, False, True), (source["editable"], provider["allowUiUpdates"], provider["disableDeletion"]))
        self.assertEqual({False}, {board["editable"] for board in boards()})

    def test_each_alert_has_a_panel_that_shows_it(self):
        panels = {(board["uid"], panel["id"]): panel for board in boards() for panel in board["panels"]}
        for rule in rules("alerts.yml"):
            uid, panel = re.fullmatch(r"/d/([a-z-]+)\?viewPanel=(\d+)", rule["annotations"]["board_url"]).groups()
            shown = set().union(*(metrics(target["expr"]) for target in panels[uid, int(panel)]["targets"]))
            self.assertTrue(shown & metrics(rule["expr"]), f"{rule['alert']}: {shown}")


class AnswersTest(unittest.TestCase):
    def test_every_expression_has_an_answer(self):
        own = self.enterContext(Secured())
        worker = own.join("w1", own.join_token("w1.token", "--id", "w1"))
        prometheus = self.enterContext(Prometheus(coordinator=[own.metrics], worker=[cluster.words(worker.line())["metrics"]]))
        job = digits_job(ENDLESS, checkpoint={"every_rounds": 5, "keep": 1})
        own.cli("job", "submit", own.file(job), "--name", "long").ok()
        waited = [(board, panel, expression) for board, panel, expression in queries() if (board, panel) not in CALM]
        self.assertGreater(len(waited), 40)
        missing = waited

        def answered():
            nonlocal missing
            own.cli("job", "list").ok()  # somebody looks, so that there are calls
            missing = [query for query in missing if not self.numbers(prometheus.query(query[2]))]
            return not missing

        try:
            eventually("all have an answer", answered)
        except AssertionError:
            self.fail(f"without an answer: {missing}")
        for board, panel, expression in queries():
            if (board, panel) in CALM:
                self.assertEqual([], prometheus.query(expression), CALM[board, panel])
        own.cli("job", "cancel", "long").ok()

    @staticmethod
    def numbers(result):
        return [one for one in result if one["value"][1] != "NaN"]


if __name__ == "__main__":
    unittest.main()
