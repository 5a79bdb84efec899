"""The report as JUnit XML, which GitHub and other services show: a case a row."""

import re
from xml.etree import ElementTree

from deeplens.parity_tests.report import Report, numbers, size_of


def junit(report: Report) -> bytes:
    """One suite. What failed or is stale is a failure; what was not run, or only compiled, is skipped, never passed."""
    counts = report.counts
    skipped = counts.get("not run", 0) + counts.get("compiles", 0)
    suite = ElementTree.Element(
        "testsuite",
        name="parity with PyTorch float32",
        tests=str(len(report.rows)),
        failures=str(len(report.wrong)),
        errors="0",
        skipped=str(skipped),
        time=f"{sum(report.seconds.values()):.2f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in {"machine": report.machine, "photo": report.photo or "none", **report.tools}.items():
        ElementTree.SubElement(properties, "property", name=name, value=_clean(value))
    for row in report.rows:
        name = " ".join(filter(None, (row.what, row.input, row.graph, size_of(row))))
        case = ElementTree.SubElement(suite, "testcase", classname=f"{row.variant}.{row.runtime}", name=name)
        said = row.note if row.measured is None else "; ".join(filter(None, (numbers(row.measured, row), row.note)))
        if row.status in ("failed", "stale"):
            ElementTree.SubElement(case, "failure", type=row.status, message=_clean(said)).text = _clean(said)
        elif row.status == "passed":
            ElementTree.SubElement(case, "system-out").text = _clean(said)
        else:
            ElementTree.SubElement(case, "skipped", message=_clean(said))
    if report.located:
        ElementTree.SubElement(suite, "system-out").text = _clean("\n".join(each.said for each in report.located))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _clean(text: str) -> str:
    """Without characters that XML can't hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
