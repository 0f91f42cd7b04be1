#!/usr/bin/env python3
"""Writes overlays/monitoring/rules.yaml: the rules of deploy/prometheus/rules as the Prometheus operator takes them."""

import pathlib

import yaml

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE / "overlays" / "monitoring" / "rules.yaml"
RULES = [HERE.parent / "prometheus" / "rules" / name for name in ("recording.yml", "alerts.yml")]


def rendered():
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "espalier"},
        "spec": {"groups": groups},
    }
    return "# Made by deploy/k8s/rules.py of deploy/prometheus/rules.\n" + yaml.safe_dump(rule, sort_keys=False, width=200)


if __name__ == "__main__":
    TARGET.write_text(rendered())
