"""The bill of materials of a release, as CycloneDX 1.6 in JSON: packages, those in the built web page, weights and
graphs, with hashes and licences.

    python -m deeplens.export.bill --out dist

`make dist` writes it beside the wheel.
"""

import base64
import json
import re
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from deeplens.console.errors import MissingError
from deeplens.console.files import file_sha256, replacing
from deeplens.console.package import DISTRIBUTION, VERSION
from deeplens.console.script import run_script
from deeplens.export.licences import CODE_LICENCE, of_weights
from deeplens.model.shipped import shipped_weights
from deeplens.runtimes.folders import PACKAGED_FOLDER
from deeplens.runtimes.manifest import read
from deeplens.runtimes.web_page import PAGE_FOLDER

EXTRA = "onnx"
"""The extra whose packages are listed: what the wheel with its graphs needs to run."""


def bill(*, packaged: Path = PACKAGED_FOLDER, page: Path = PAGE_FOLDER) -> dict[str, Any]:
    """The bill.

    Args:
        packaged: the folder of the graphs that the wheel carries.
        page: the folder of the built web page; what is in it is left out where there is none.

    Raises:
        MissingError: this distribution is not installed, so that nobody knows what it needs.
    """
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "component": {
                "type": "library",
                "bom-ref": DISTRIBUTION,
                "name": DISTRIBUTION,
                "version": VERSION,
                "purl": f"pkg:pypi/{DISTRIBUTION}@{VERSION}",
                "licenses": [{"license": {"id": CODE_LICENCE}}],
            },
        },
        "components": [*_packages(), *_of_page(page), *_weights(), *_graphs(packaged)],
        "dependencies": [{"ref": DISTRIBUTION, "dependsOn": sorted(each["bom-ref"] for each in _packages())}],
    }


def _packages() -> list[dict[str, Any]]:
    """The packages that the wheel needs with `EXTRA`, and those that they need, as they are installed here."""
    try:
        waiting = _needed(DISTRIBUTION, EXTRA)
    except metadata.PackageNotFoundError:
        raise MissingError(f"{DISTRIBUTION} is not installed: run `pip install -e .` in its folder") from None
    found: dict[str, dict[str, Any]] = {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            known = metadata.metadata(name)
        except metadata.PackageNotFoundError:  # of another platform
            continue
        stated = known.json
        licence = str(stated.get("license_expression") or stated.get("license") or "")
        found[name] = {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{known['Version']}",
            "name": name,
            "version": known["Version"],
            "purl": f"pkg:pypi/{name}@{known['Version']}",
            **({"licenses": [{"license": {"name": licence.splitlines()[0][:80]}}]} if licence else {}),
        }
        waiting += _needed(name, "")
    return [found[name] for name in sorted(found)]


def _of_page(folder: Path) -> list[dict[str, Any]]:
    """The packages of npm whose code is in the built page, as its own list names them: see web/vite.config.ts."""
    path = folder / "packages.json"
    if not path.is_file():
        return []
    found = []
    for each in json.loads(path.read_text(encoding="utf-8")):
        purl = f"pkg:npm/{quote(each['name'], safe='/')}@{each['version']}"
        kind, _, coded = each.get("integrity", "").partition("-")
        hashes = [{"alg": "SHA-512", "content": base64.b64decode(coded).hex()}] if kind == "sha512" else []
        found.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": each["name"],
                "version": each["version"],
                "purl": purl,
                **({"hashes": hashes} if hashes else {}),
                **({"licenses": [{"license": {"name": each["license"]}}]} if each.get("license") else {}),
                "properties": [{"name": "deeplens:part-of", "value": "the web page"}],
            }
        )
    return found


def _needed(name: str, extra: str) -> list[str]:
    """Names, lower case with hyphens, of the packages that one needs with an extra."""
    needed = []
    for requirement in metadata.requires(name) or []:
        text, _, marker = requirement.partition(";")
        of = re.search(r"extra == ['\"]([^'\"]+)['\"]", marker)
        if of is None or of[1] == extra:
            match = re.match(r"[\w.-]+", text)
            if match is not None:
                needed.append(re.sub(r"[-_.]+", "-", match[0]).lower())
    return [each for each in needed if each != DISTRIBUTION]


def _weights() -> list[dict[str, Any]]:
    licences = of_weights()
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": f"weights/{each.path.name}",
            "name": each.path.name,
            "version": each.sha256[:12],
            "hashes": [{"alg": "SHA-256", "content": each.sha256}],
            "licenses": [
                {"license": {"name": name}}
                for name in sorted({row.licence for row in licences if row.name == each.path.name and row.licence})
            ],
            "properties": [
                {"name": "deeplens:trained-on", "value": f"{row.count or ''} {row.part} ({row.licence})".strip()}
                for row in licences
                if row.name == each.path.name
            ],
        }
        for each in shipped_weights()
    ]


def _graphs(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": f"graphs/{entry.path}",
            "name": entry.path,
            "version": entry.sha256[:12],
            "hashes": [{"alg": "SHA-256", "content": file_sha256(folder / entry.path)}],
            "properties": [{"name": "deeplens:weights-sha256", "value": entry.weights_sha256}],
        }
        for entry in read(folder)
    ]


def main(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write the bill of materials to.")],
) -> None:
    """Write the bill of materials of a release as CycloneDX JSON."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{DISTRIBUTION.replace('-', '_')}-{VERSION}.cdx.json"
    made = bill()
    with replacing(path) as file:
        file.write((json.dumps(made, indent=2) + "\n").encode())
    typer.echo(f"{path}: {len(made['components'])} components")


if __name__ == "__main__":
    run_script(main)
