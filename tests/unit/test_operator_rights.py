"""The rights that are documented are those that are installed: none less, none more."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([^`]+)` \| ([a-z, ]+) \| .+ \|$", re.MULTILINE)


def test_the_table_of_rights_is_what_is_installed() -> None:
    documents = yaml.safe_load_all((ROOT / "deploy/base/rbac.yaml").read_text())
    (role,) = [one for one in documents if one["kind"] == "ClusterRole"]
    installed = {
        ".".join(filter(None, (resource, group))): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    text = (ROOT / "docs/operator.md").read_text()
    section = text[text.index("## Rights") :].partition("\n## ")[0]
    documented = {name: set(verbs.split(", ")) for name, verbs in ROW.findall(section)}
    assert documented == installed
    everything = [text for rule in role["rules"] for kind in rule.values() for text in kind]
    assert "*" not in everything
    assert not {"secrets", "configmaps", "pods/exec"} & set(everything)
