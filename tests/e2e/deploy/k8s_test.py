"""deploy/k8s as kustomize renders it: schemas of Kubernetes and of operators, and what every container must have."""

import json
import os
import pathlib
import re
import subprocess
import sys
import unittest

import kubernetes_validate
import yaml

ROOT = pathlib.Path(os.environ["ESPALIER_SOURCE_DIR"])
sys.path.insert(0, str(ROOT / "tests" / "support"))
sys.path.insert(0, str(ROOT / "deploy" / "k8s"))

import rules
from node_packages import node, packages

BIN = pathlib.Path(os.environ["ESPALIER_BIN_DIR"])
HERE = pathlib.Path(__file__).parent
K8S = ROOT / "deploy" / "k8s"
OVERLAYS = ["base", *sorted(f"overlays/{folder.name}" for folder in (K8S / "overlays").iterdir() if folder.is_dir())]
# The oldest Kubernetes that the manifests are for.
KUBERNETES = "1.29"
OPERATORS = ("monitoring.coreos.com/", "cert-manager.io/")


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=200, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


class K8sTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        kustomize = run(HERE / "kustomize.sh", BIN.parent / "kustomize").strip()
        cls.rendered = {name: list(yaml.safe_load_all(run(kustomize, "build", K8S / name))) for name in OVERLAYS}

    def every(self, *kinds):
        """(overlay, resource) of these kinds."""
        for name, resources in self.rendered.items():
            for resource in resources:
                if not kinds or resource["kind"] in kinds:
                    yield name, resource

    def pods(self):
        """(overlay, name, specification of the pod, container)"""
        for name, resource in self.every("Deployment", "StatefulSet"):
            pod = resource["spec"]["template"]["spec"]
            for container in pod["containers"]:
                yield name, resource["metadata"]["name"], pod, container

    def test_kubernetes_takes_everything(self):
        for name, resource in self.every():
            if not resource["apiVersion"].startswith(OPERATORS):
                with self.subTest(overlay=name, kind=resource["kind"], name=resource["metadata"]["name"]):
                    kubernetes_validate.validate(resource, KUBERNETES, strict=True)

    def test_operators_take_what_is_theirs(self):
        folder = packages(HERE / "crds", "crd-schemas")
        theirs = [resource for _, resource in self.every() if resource["apiVersion"].startswith(OPERATORS)]
        self.assertEqual({"ServiceMonitor", "PodMonitor", "PrometheusRule", "Issuer", "Certificate"}, {one["kind"] for one in theirs})
        self.assertEqual("", run(node(), folder / "validate.mjs", input=json.dumps(theirs)))

    def test_containers_are_confined(self):
        for name, owner, pod, container in self.pods():
            with self.subTest(overlay=name, pod=owner):
                self.assertTrue(pod["securityContext"]["runAsNonRoot"])
                self.assertEqual("RuntimeDefault", pod["securityContext"]["seccompProfile"]["type"])
                self.assertFalse(pod["automountServiceAccountToken"])
                own = container["securityContext"]
                self.assertFalse(own["allowPrivilegeEscalation"])
                self.assertTrue(own["readOnlyRootFilesystem"])
                self.assertEqual(["ALL"], own["capabilities"]["drop"])
                limits, requests = container["resources"]["limits"], container["resources"]["requests"]
                self.assertEqual(limits["memory"], requests["memory"])
                self.assertIn("cpu", limits)
                self.assertIn("livenessProbe", container)
                if "worker" not in container["image"]:
                    self.assertIn("readinessProbe", container)

    def test_the_namespace_demands_it(self):
        for name, namespace in self.every("Namespace"):
            self.assertEqual("restricted", namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], name)

    def test_secrets_are_files_and_read_by_nobody_else(self):
        for name, owner, pod, container in self.pods():
            with self.subTest(overlay=name, pod=owner):
                for variable in container.get("env", []):
                    self.assertNotIn("secretKeyRef", variable.get("valueFrom", {}))
                self.assertNotIn("envFrom", container)
                for volume in pod["volumes"]:
                    for kind in ("secret", "projected"):
                        if kind in volume:
                            self.assertEqual(0, volume[kind]["defaultMode"] & 0o7, volume["name"])
                mounted = {mount["name"] for mount in container["volumeMounts"]}
                claimed = {"data", "state"} if owner != "espalier-worker" else set()
                self.assertEqual(mounted - claimed, {volume["name"] for volume in pod["volumes"]})

    def test_programs_know_their_flags(self):
        known = {}
        for name, owner, _, container in self.pods():
            program = container["image"].split("/")[1].split(":")[0]
            program = "espalier" if "command" in container else f"espalier-{program}"
            commands = [[]] if program != "espalier" else [[], ["dashboard"]]
            if program not in known:
                known[program] = "".join(run(BIN / program, *command, "--help") for command in commands)
            probes = [container[probe]["exec"]["command"] for probe in container if probe.endswith("Probe")]
            for argument in [*container["args"], *(word for probe in probes for word in probe[1:])]:
                if argument.startswith("--"):
                    flag = argument.split("=")[0]
                    self.assertRegex(known[program], rf"(?m)^\s+{flag}\b", f"{name} {owner}: {argument}")

    def test_names_that_are_used_are_there(self):
        """Services in addresses, ports in probes and policies, and claims."""
        for name, resources in self.rendered.items():
            services = {one["metadata"]["name"] for one in resources if one["kind"] == "Service"}
            ports = {port["name"] for one in resources if one["kind"] in ("Deployment", "StatefulSet") for container in one["spec"]["template"]["spec"]["containers"] for port in container["ports"]}
            for one in resources:
                if one["kind"] in ("Deployment", "StatefulSet"):
                    for argument in one["spec"]["template"]["spec"]["containers"][0]["args"]:
                        for host in re.findall(r"(?:--coordinator=|--server=|,)([a-z0-9.-]+):7070", argument):
                            self.assertIn(host.split(".")[-1], services, f"{name}: {argument}")
                if one["kind"] == "StatefulSet":
                    self.assertIn(one["spec"]["serviceName"], services, name)
                if one["kind"] == "NetworkPolicy":
                    for rule in one["spec"].get("ingress", []):
                        for port in rule["ports"]:
                            self.assertIn(port["port"], ports, name)

    def test_images_are_of_this_version(self):
        version = re.search(r"\d+\.\d+\.\d+", run(BIN / "espalier", "--version")).group()
        for name, owner, _, container in self.pods():
            self.assertEqual(version, container["image"].split(":")[1], f"{name} {owner}")

    def test_the_rules_are_those_of_prometheus(self):
        self.assertEqual(rules.rendered(), rules.TARGET.read_text(), "run deploy/k8s/rules.py")

    def test_only_the_metric_that_there_is_scales_workers(self):
        metrics = run(BIN / "espalier-coordinator", "--describe-metrics")
        for name, scaler in self.every("HorizontalPodAutoscaler"):
            metric = scaler["spec"]["metrics"][0]["external"]["metric"]
            row = next(line for line in metrics.splitlines() if f"`{metric['name']}`" in line)
            self.assertIn(metric["selector"]["matchLabels"]["state"], row, name)


if __name__ == "__main__":
    unittest.main()
