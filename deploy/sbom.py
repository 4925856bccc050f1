"""Writes a software bill of materials, CycloneDX 1.6 in JSON, of what requirements.lock holds: `make sbom`.

    python deploy/sbom.py [--serving]

With --serving only what the image is made of. Licences are what the packages installed here say of themselves; of those
for other platforms nothing is known here. The same lock and the same packages give the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
import tomllib
import uuid
from typing import Any

from lock import ROOT, Locked, locked, serving

# What a classifier calls a licence, and its name by SPDX, where one means the other.
_SPDX = {
    "Apache Software License": "Apache-2.0",
    "BSD License": None,  # which of them it does not say
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
# A licence may be its whole text; a name is short.
_NAME_CHARACTERS = 80
Document = dict[str, Any]


def bill(packages: list[Locked]) -> Document:
    """The document."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    names = {package.name: _reference(package) for package in packages}
    dependencies: dict[str, set[str]] = {own: set(), **{reference: set() for reference in names.values()}}
    for package in packages:
        for name in package.via:
            source = own if name.startswith(project["name"]) else names.get(name)
            if source is not None:
                dependencies[source].add(names[package.name])
    document: Document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": own,
            }
        },
        "components": [_component(package) for package in packages],
        "dependencies": [
            {"ref": reference, "dependsOn": sorted(dependencies[reference])} for reference in sorted(dependencies)
        ],
    }
    content = json.dumps(document, sort_keys=True)
    return {"serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}", **document}


def _reference(package: Locked) -> str:
    return f"pkg:pypi/{package.name}@{package.version}"


def _component(package: Locked) -> Document:
    found: Document = {
        "type": "library",
        "bom-ref": _reference(package),
        "name": package.name,
        "version": package.version,
        "purl": _reference(package),
    }
    if licenses := _licenses(package):
        found["licenses"] = licenses
    if package.marker:
        found["properties"] = [{"name": "lmht:marker", "value": package.marker}]
    return found


def _licenses(package: Locked) -> list[Document]:
    """An expression by SPDX, or else names; none of a package that is not installed here in this version."""
    try:
        metadata = importlib.metadata.metadata(package.name)
    except importlib.metadata.PackageNotFoundError:
        return []
    if metadata["Version"].partition("+")[0] != package.version.partition("+")[0]:
        return []
    if "License-Expression" in metadata:
        return [{"expression": metadata["License-Expression"]}]
    classifiers = sorted(
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if line.startswith("License :: OSI")
    )
    if known := [_SPDX[line] for line in classifiers if _SPDX.get(line)]:
        return [{"license": {"id": identifier}} for identifier in known]
    text = metadata["License"].strip() if "License" in metadata else ""
    if text and len(text) <= _NAME_CHARACTERS and "\n" not in text:
        return [{"license": {"name": re.sub(r"\s+", " ", text)}}]
    return [{"license": {"name": line}} for line in classifiers]


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--serving", action="store_true", help="only what the image is made of")
    packages = locked()
    if parser.parse_args().serving:
        wanted = serving()
        packages = [package for package in packages if package.name in wanted]
    json.dump(bill(packages), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
