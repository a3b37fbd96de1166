"""What the pages show as YAML, and the commands that make Secrets, are true: a real API server takes them as they
stand.

Part of an ImageBuild (a block that only has ``spec``) is tried within one. What is for others to read (kustomize, Argo
CD, Flux) is named here, and is rendered by the tests of deploy/.
"""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Namespace

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = ("kustomize.config.k8s.io/", "argoproj.io/", "source.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/")
PARTS_OF_OTHERS = ({"patches"}, {"components"}, {"metadata"})

Json = dict[str, Any]


def blocks(page: Path) -> Iterator[str]:
    """All fences of YAML, in lists too, and what is indented as code and is part of an ImageBuild."""
    text = page.read_text(encoding="utf-8")
    for indent, block in re.findall(r"^( *)```yaml\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
        yield textwrap.dedent(block) if indent else block
    unfenced = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for block in re.findall(r"(?:^    .*\n)+", unfenced, re.MULTILINE):
        if block.startswith("    spec:\n"):
            yield textwrap.dedent(block)


def documents(page: Path) -> Iterator[Json]:
    for block in blocks(page):
        yield from (document for document in yaml.safe_load_all(block) if document is not None)


SHOWN = {page.name: found for page in PAGES if (found := list(documents(page)))}


@pytest.mark.parametrize("name", SHOWN)
def test_what_the_page_shows_is_what_the_api_server_takes(name: str, namespace: Namespace) -> None:
    for document in SHOWN[name]:
        if set(document) in PARTS_OF_OTHERS or document.get("apiVersion", "").startswith(OTHERS):
            continue
        whole = namespace.imagebuild(**document["spec"]) if set(document) == {"spec"} else document
        done = namespace.try_kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", given=whole)
        assert done.returncode == 0, f"{json.dumps(whole)}\n{done.stderr}"


CREATES = [
    (page.name, re.sub(r"\\\n *", "", line))
    for page in PAGES
    for line in re.findall(
        r"^ *\$ (kubectl create (?:secret|configmap) (?:.*\\\n)*.*)$", page.read_text(), re.MULTILINE
    )
]
FILES = ("ca.crt", "deploy-key", "deploy_key", "known_hosts")


@pytest.mark.parametrize(("name", "command"), CREATES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(CREATES)])
def test_a_command_that_makes_a_secret_makes_it(
    name: str, command: str, api: ApiServer, programs: Path, namespace: Namespace, tmp_path: Path
) -> None:
    for file in FILES:
        (tmp_path / file).write_text("x")
    (tmp_path / "config.json").write_text('{"auths": {"registry.example.com": {"auth": "bTpw"}}}')
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "KUBECONFIG": str(api.admin), "PASSWORD": "p", "TOKEN": "t"}
    line = command.replace("$(ssh-keyscan host)", "x")
    script = f"{line} --namespace={namespace.name} --dry-run=server --output=json"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{name}: {command}\n{done.stderr}"
    assert json.loads(done.stdout)["data"]


def test_every_page_on_a_task_shows_an_imagebuild() -> None:
    kinds = {name: [document.get("kind") for document in found] for name, found in SHOWN.items()}
    for name in ("first-build.md", "private-git.md", "private-registry.md", "cached-builds.md", "README.md"):
        assert "ImageBuild" in kinds[name], name
