"""The images list what is in them, as SPDX: docker/collect.sh fills a folder here as it does for an image."""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from cluster import BIN, SOURCE, espalier

PROGRAMS = ("espalier", "espalier-coordinator", "espalier-worker")
DOCUMENT = "SPDXRef-DOCUMENT"


@unittest.skipUnless(os.geteuid() == 0, "only root can make the folder of the image's user")
class SbomTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        # Of the programs alone: there are tests beside them.
        programs = folder / "programs"
        programs.mkdir()
        for program in PROGRAMS:
            (programs / program).symlink_to(BIN / program)
        cls.image = folder / "image"
        subprocess.run([SOURCE / "docker/collect.sh", programs, cls.image], check=True,
                       env=os.environ | {"SOURCE_DATE_EPOCH": "1764547200"})
        cls.text = (cls.image / "usr/share/doc/espalier/sbom.spdx.json").read_text()
        cls.sbom = json.loads(cls.text)
        cls.packages = {package["name"]: package for package in cls.sbom["packages"]}

    def test_the_document_has_what_spdx_requires(self):
        version = espalier("--version").ok().out.split()[1]
        self.assertEqual(
            ("SPDX-2.3", "CC0-1.0", DOCUMENT, f"espalier-{version}"),
            tuple(self.sbom[key] for key in ("spdxVersion", "dataLicense", "SPDXID", "name")),
        )
        self.assertRegex(self.sbom["documentNamespace"], r"^https://\S+-[0-9a-f]{32}$")
        self.assertEqual("2025-12-01T00:00:00Z", self.sbom["creationInfo"]["created"])
        self.assertRegex(self.sbom["creationInfo"]["creators"][0], r"^Tool: \S+$")

    def test_every_package_has_what_spdx_requires(self):
        identifiers = [package["SPDXID"] for package in self.sbom["packages"]]
        self.assertEqual(len(identifiers), len(set(identifiers)))
        self.assertEqual(len(identifiers), len(self.packages))
        for package in self.sbom["packages"]:
            with self.subTest(package["name"]):
                self.assertRegex(package["SPDXID"], r"^SPDXRef-[A-Za-z0-9.-]+$")
                self.assertRegex(package["versionInfo"], r"^\d\S*$")
                self.assertRegex(package["supplier"], r"^(NOASSERTION|Organization: Debian)$")
                self.assertEqual("NOASSERTION", package["downloadLocation"])
                self.assertIs(package["filesAnalyzed"], False)
                for reference in package.get("externalRefs", []):
                    self.assertEqual(("PACKAGE-MANAGER", "purl"), (reference["referenceCategory"], reference["referenceType"]))
                    self.assertRegex(reference["referenceLocator"], r"^pkg:(deb/debian|github/uxlfoundation)/[^@\s]+@[^\s+]+$")

    def test_licences_are_identifiers_or_are_defined(self):
        defined = {licence["licenseId"]: licence for licence in self.sbom["hasExtractedLicensingInfos"]}
        self.assertTrue(all(licence["extractedText"] for licence in defined.values()))
        used = set()
        for package in self.sbom["packages"]:
            names = package["licenseDeclared"].split(" AND ")
            self.assertEqual(sorted(set(names)), sorted(names), package["name"])
            for name in names:
                self.assertRegex(name, r"^[A-Za-z0-9.-]+$", package["name"])
                used.add(name)
            # Unknown is only what Debian does not say in a form that can be read.
            copyright_file = self.image / f"usr/share/doc/{package['name']}/copyright"
            if copyright_file.exists() and package["licenseDeclared"] == "NOASSERTION":
                self.assertNotRegex(copyright_file.read_text(errors="replace")[:500], r"(?m)^Format: .*copyright-format/1\.0")
        self.assertEqual(set(defined), {name for name in used if name.startswith("LicenseRef-")})
        self.assertEqual("Apache-2.0", self.packages["espalier-coordinator"]["licenseDeclared"])
        self.assertEqual("Zlib", self.packages["zlib1g"]["licenseDeclared"])

    def test_everything_in_the_image_is_listed(self):
        for program in PROGRAMS:
            digest = hashlib.sha256((self.image / "usr/bin" / program).read_bytes()).hexdigest()
            self.assertEqual([{"algorithm": "SHA256", "checksumValue": digest}], self.packages[program]["checksums"])
        owners = set()
        for line in (self.image / "usr/share/doc/espalier/libraries").read_text().splitlines():
            source, package, version = line.split()
            self.assertEqual(version, self.packages[package]["versionInfo"])
            self.assertIn(source, self.packages[package]["sourceInfo"])
            owners.add(package)
        listed = subprocess.run(["dpkg-query", "-L", *owners], text=True, capture_output=True, check=True).stdout.splitlines()
        names = {pathlib.Path(line).name for line in listed}
        files = [path for path in (self.image / "usr").rglob("*.so*") if path.is_file()]
        self.assertGreater(len(files), 20)
        self.assertEqual([], [path.name for path in files if path.name not in names])
        for inside in ("libeigen3-dev", "nlohmann-json3-dev", "libcli11-dev"):
            self.assertIn(inside, self.packages)
        self.assertTrue("oneDNN" in self.packages or any(name.startswith("libdnnl") for name in owners))

    def test_relationships_lead_to_what_is_there(self):
        identifiers = {package["SPDXID"] for package in self.sbom["packages"]} | {DOCUMENT}
        related = set()
        for one in self.sbom["relationships"]:
            self.assertIn(one["relationshipType"], ("DESCRIBES", "STATIC_LINK"))
            self.assertLessEqual({one["spdxElementId"], one["relatedSpdxElement"]}, identifiers)
            related.add(one["relatedSpdxElement"])
        self.assertEqual(identifiers - {DOCUMENT}, related)

    def test_nothing_of_the_building_machine_is_in_it(self):
        self.assertIsNone(re.search(re.escape(str(SOURCE)), self.text))


if __name__ == "__main__":
    unittest.main()
