"""Formats warnings as text, JSON and SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format").

No I/O.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from imagewright.dockerfile.model import DockerfileWarning
from imagewright.errors import Location
from imagewright.lint.rules import BY_NAME, RULES, Rule

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def human(warnings: Sequence[DockerfileWarning]) -> str:
    """Each warning with its lines, fix and documentation, and a count at the end."""
    blocks = []
    for warning in warnings:
        rule = BY_NAME[warning.rule]
        lines = [f"warning: {warning.message} [{warning.rule}]", f"  --> {warning.location}", *warning.excerpt]
        lines.append(f"fix: {rule.fix}")
        if rule.url:
            lines.append(f"see: {rule.url}")
        blocks.append("\n".join(lines) + "\n")
    count = len(warnings)
    blocks.append(f"{count or 'no'} warning{'' if count == 1 else 's'}\n")
    return "\n".join(blocks)


def as_json(warnings: Sequence[DockerfileWarning]) -> str:
    """``{"warnings": [{rule, message, fix, url, file, line, endLine, column, endColumn}]}``, counted from 1.

    Columns are omitted where only the line is known; ``endColumn`` is exclusive.
    """
    found = [
        {
            "rule": warning.rule,
            "message": warning.message,
            "fix": BY_NAME[warning.rule].fix,
            "url": BY_NAME[warning.rule].url,
            "file": warning.location.file,
            **_place(warning.location, ("line", "endLine", "column", "endColumn")),
        }
        for warning in warnings
    ]
    return json.dumps({"warnings": found}, indent=2, ensure_ascii=False) + "\n"


def as_sarif(warnings: Sequence[DockerfileWarning], version: str) -> str:
    """One run with all rules, including those without a result, so that viewers can list them."""
    index = {rule.name: number for number, rule in enumerate(RULES)}
    results = [
        {
            "ruleId": warning.rule,
            "ruleIndex": index[warning.rule],
            "level": "warning",
            "message": {"text": warning.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": quote(warning.location.file.removeprefix("./"))},
                        "region": _place(warning.location, ("startLine", "endLine", "startColumn", "endColumn")),
                    }
                }
            ],
        }
        for warning in warnings
    ]
    driver = {"name": "imagewright", "version": version, "rules": [_sarif_rule(rule) for rule in RULES]}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    document = {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _sarif_rule(rule: Rule) -> dict[str, Any]:
    value: dict[str, Any] = {
        "id": rule.name,
        "name": rule.name,
        "shortDescription": {"text": rule.description},
        "help": {"text": f"{rule.description} {rule.fix}"},
        "defaultConfiguration": {"level": "warning", "enabled": not rule.experimental},
    }
    return value | ({"helpUri": rule.url} if rule.url else {})


def _place(location: Location, names: tuple[str, str, str, str]) -> dict[str, int]:
    first, last, column, end_column = names
    place = {first: location.line, last: max(location.line, location.end_line)}
    if location.column:
        place |= {column: location.column, end_column: max(location.end_column, location.column + 1)}
    return place
