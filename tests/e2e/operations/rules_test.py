"""The alerts and rules of deploy/prometheus and deploy/alertmanager: what they are made of is there, and each says what to do."""

import pathlib
import re
import subprocess
import sys
import unittest

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from metrics_test import described

RULES = cluster.SOURCE / "deploy/prometheus/rules"
PAGE = cluster.SOURCE / "docs/operations/alerts.md"


def rules(name):
    content = yaml.safe_load((RULES / name).read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


class RulesTest(unittest.TestCase):
    def succeeds(self, *words):
        done = subprocess.run(words, cwd=RULES, capture_output=True, text=True, check=False)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)

    def test_each_alert_fires_for_its_fault_alone(self):
        self.succeeds("promtool", "check", "rules", "alerts.yml", "recording.yml")
        self.succeeds("promtool", "test", "rules", "tests.yml")
        tried = {test["name"].split()[0] for test in yaml.safe_load((RULES / "tests.yml").read_text())["tests"]}
        self.assertEqual({rule["alert"] for rule in rules("alerts.yml")}, tried)

    def test_rules_are_made_of_series_that_exist(self):
        known = {name for name, *_ in described()} | {rule["record"] for rule in rules("recording.yml")} | {"up"}
        labels = {name: values for name, _, _, values in described()}
        for rule in rules("alerts.yml") + rules("recording.yml"):
            for name, matchers in re.findall(r"\b((?:[a-z]+:)?(?:espalier|process)_[a-z0-9_:]+)(?:\{([^}]*)\})?", rule["expr"]):
                name = re.sub(r"_(bucket|sum|count)$", "", name) if name not in known else name
                self.assertIn(name, known, rule)
                for label, value in re.findall(r'(\w+)="([^"]*)"', matchers):
                    if label in labels.get(name, {}):
                        self.assertIn(value, labels[name][label], rule)

    def test_prometheus_takes_its_configuration(self):
        self.succeeds("promtool", "check", "config", "--syntax-only", "../prometheus.yml")

    def test_alertmanager_knows_each_alert_that_it_is_told_of(self):
        file = RULES.parents[1] / "alertmanager/alertmanager.yml"
        self.succeeds("amtool", "check-config", file)
        known = {rule["alert"] for rule in rules("alerts.yml")}
        named = set(re.findall(r"Espalier\w+", file.read_text(encoding="utf-8")))
        self.assertTrue(named)
        self.assertLessEqual(named, known)

    def test_each_alert_has_its_section(self):
        sections = set(re.findall(r"^## (Espalier\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
        self.assertEqual({rule["alert"] for rule in rules("alerts.yml")}, sections)
        for rule in rules("alerts.yml"):
            self.assertEqual(f"docs/operations/alerts.md#{rule['alert'].lower()}", rule["annotations"]["runbook_url"])
            self.assertIn(rule["labels"]["severity"], ("critical", "warning", "info"))


if __name__ == "__main__":
    unittest.main()
