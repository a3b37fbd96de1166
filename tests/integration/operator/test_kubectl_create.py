"""``kubectl imagewright create``, ``tree`` and completion, on a real API server and by the real kubectl."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cluster.binaries import binaries
from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.plugin import Plugin
from imagebuilds.waiting import eventually

INVOCATIONS = Path(__file__).parents[2] / "invocations"


@pytest.fixture
def path(api: ApiServer, tmp_path: Path) -> dict[str, str]:
    """An environment as after ``pip install``: both programs of the plugin and kubectl on the PATH."""
    for name, module in (("kubectl-imagewright", "main"), ("kubectl_complete-imagewright", "completion")):
        program = tmp_path / name
        words = f"from imagewright_kubectl.{module} import main; main()"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -c {shlex.quote(words)} "$@"\n')
        program.chmod(0o755)
    search = f"{tmp_path}:{binaries()}:{os.environ['PATH']}"
    return {**os.environ, "PATH": search, "KUBECONFIG": str(api.admin)}


def run(words: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_create_sends_what_its_dry_run_prints(plugin: Plugin, namespace: Namespace) -> None:
    flags = """--git https://git.example.com/team/app.git --revision main --poll 5m --source-secret git --context-dir services/api
    --dockerfile docker/Dockerfile --target runtime --build-arg VERSION=1.2 --secret npmrc=npm/.npmrc --ssh default=key/id
    --platform linux/amd64 --push-secret regcred --label team=a --annotation a=b --format OCI --compression Zstd
    --reproducible --cache-repo registry.example.com/cache --cache-ttl 24h --cache-volume cache --timeout 30m
    -t registry.example.com/app:1 --tag registry.example.com/app:latest""".split()
    printed = plugin.output("create", "app", *flags, "--dry-run=client", "-o", "yaml")
    looked_at = yaml.safe_load(plugin.output("create", "app", *flags, "--dry-run=server"))
    assert namespace.get("imagebuilds")["items"] == []
    assert plugin.output("create", "app", *flags) == "imagebuild.imagewright.dev/app created\n"
    namespace.kubectl("diff", "--filename=-", given=yaml.safe_load(printed))  # what is printed is what was created
    assert looked_at["spec"] == namespace.get("imagebuild", "app")["spec"]
    again = plugin.run("create", "app", *flags)
    assert (again.returncode, "already exists [UsageInvalid]\nhint: " in again.stderr) == (2, True)
    for name in ("argo-workflow", "cloud-build", "tekton-task"):
        given = f"--from={INVOCATIONS / f'{name}.yaml'}"
        assert plugin.output("create", given) == f"imagebuild.imagewright.dev/{name} created\n"
    manifest = (INVOCATIONS / "argo-workflow.yaml").read_text()
    made = json.loads(plugin.output("create", "other", "--from=-", "-o", "json", stdin=manifest))
    assert made["spec"]["source"]["git"]["ref"] == {"branch": "main"}


def test_a_pod_read_from_the_cluster_is_converted_like_its_manifest(plugin: Plugin, namespace: Namespace) -> None:
    for name in ("argo-workflow", "tekton-task"):
        file = INVOCATIONS / f"{name}.yaml"
        namespace.kubectl("create", f"--filename={file}")
        shown = namespace.kubectl("get", "pod", name, "--output=yaml")
        made = [
            yaml.safe_load(plugin.output("create", "--from", place, "--dry-run", stdin=shown))
            for place in (str(file), "-")
        ]
        assert "serviceaccount" in shown
        assert made[0] == made[1]


def test_errors_of_the_api_server_are_shown(plugin: Plugin) -> None:
    done = plugin.run("create", "app", "--git=https://h/a.git", "--tag=registry.example.com/App:1")
    assert done.returncode == 2
    assert "spec.output: Invalid value: has a value in tags that is not an image reference: " in done.stderr
    assert "[InvalidSpec]\nhint: " in done.stderr
    for words, said in (
        (["app"], "missing source"),
        (["app", "--git=https://h/a.git"], "missing --tag"),
        (["--git=https://h/a.git", "-t", "r/a:1"], "missing NAME"),
        (["app", "--git=https://h/a.git", "--inline=-"], "not allowed with argument --git"),
        (["app", "--configmap=a", "--revision=main", "-t", "r/a:1"], "--revision requires --git"),
        (["app", "--http=https://a/b", "--poll=5m", "-t", "r/a:1"], "--poll requires --git"),
        (["app", "--inline=/nonexistent", "-t", "r/a:1"], "cannot read --inline=/nonexistent: No such file"),
        (["app", "--git=https://h/a.git", "-t", "r/a:1", "--timeout=soon"], "is not a duration"),
        (["app", "--from=/nonexistent"], "cannot read --from=/nonexistent: No such file"),
        (["x" * 53, "--git=https://h/a.git", "-t", "r/a:1"], "longer than 52 characters"),
    ):
        done = plugin.run("create", *words)
        assert done.returncode == 2, words
        assert said in done.stderr
        assert "hint: " in done.stderr


def test_a_client_dry_run_leaves_the_resources_rules_to_the_api_server(plugin: Plugin) -> None:
    command = ["create", "app", "--git=https://h/a.git", "--tag=r.io/a:1"]
    for flag, value, message in (
        ("--timeout", "5x", "spec.timeout"),
        ("--platform", "windows", "spec.platforms"),
        ("--push-secret", "A", "spec.output.pushSecretRef.name"),
    ):
        assert value in plugin.output(*command, f"{flag}={value}", "--dry-run=client")
        refused = plugin.run(*command, f"{flag}={value}", "--dry-run=server")
        assert (refused.returncode, message in refused.stderr) == (2, True), refused


def test_tree_shows_builds_and_their_pods(plugin: Plugin, namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    first = namespace.pod()
    namespace.pushes(first)
    namespace.phase("Succeeded")
    plugin.output("rebuild", "app")
    namespace.phase("Pending")
    second = namespace.pod()
    tree = plugin.output("tree", "app").splitlines()
    assert [line[: tree[0].index("STATUS")].rstrip() for line in tree] == [
        "NAME",
        "ImageBuild/app",
        "├── build 2",
        f"│   └── Pod/{second['metadata']['name']}",
        "└── build 1",
        f"    └── Pod/{first['metadata']['name']}",
    ]
    shown = json.loads(plugin.output("tree", "app", "-o", "json"))
    assert shown["status"] == "Pending"
    assert [child["status"] for child in shown["children"]] == ["Pending", "Succeeded"]
    assert "sha256:" + "a" * 64 in shown["about"]
    none = plugin.run("logs", "app")
    assert (none.returncode, none.stdout) == (1, "")
    assert 'error: ImageBuild "app" has no log: its build has not started (Pending: ' in none.stderr
    assert "[LogNotFound]\nhint: Follow the build with `kubectl imagewright logs -f app`" in none.stderr


def test_kubectl_runs_and_completes_the_plugin(namespace: Namespace, path: dict[str, str]) -> None:
    namespace.apply("one")
    namespace.apply("two")
    where = ["-n", namespace.name]
    assert "one" in run(["kubectl", "imagewright", "get", *where], path)
    for words, expected in (
        (["res"], ["resume"]),
        (["get", "-o", ""], ["json", "name", "wide", "yaml"]),
        (["wait", *where, ""], ["one", "two"]),
        (["wait", *where, "tw"], ["two"]),
        (["logs", "--fol"], ["--follow"]),
        (["get", "--namespace", namespace.name[:8]], [namespace.name]),
        (["completion", ""], ["bash", "fish", "zsh"]),
    ):
        lines = run(["kubectl", "__complete", "imagewright", *words], path).splitlines()
        found = [line.partition("\t")[0] for line in lines if not line.startswith(":")]
        assert set(expected) <= set(found) if "-n" not in words else found == expected
        assert lines[-1] == ":4"
    assert run(["kubectl", "__complete", "imagewright", "create", "--from", ""], path).splitlines()[-1] == ":0"


def test_bash_completes_the_program_by_its_own_name(namespace: Namespace, path: dict[str, str]) -> None:
    namespace.apply("one")
    script = """source <(kubectl-imagewright completion bash)
    COMP_WORDS=(kubectl-imagewright wait --namespace = {0} o) COMP_CWORD=5; _kubectl_imagewright; echo "${{COMPREPLY[@]}}"
    COMP_WORDS=(kubectl-imagewright reb) COMP_CWORD=1; _kubectl_imagewright; echo "${{COMPREPLY[@]}}"
    """
    assert run(["bash", "-c", script.format(namespace.name)], path) == "one\nrebuild\n"


def test_documented_permissions_suffice_for_every_command(
    api: ApiServer, plugin: Plugin, plugin_of: Callable[[Path], Plugin], namespace: Namespace
) -> None:
    page = (Path(__file__).parents[3] / "docs/kubectl.md").read_text()
    role = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    namespace.apply()
    namespace.kubectl("create", "serviceaccount", "user")
    user = plugin_of(api.kubeconfig(namespace.kubectl("create", "token", "user").strip()))
    create = ["create", "other", "--git=https://h/a.git", "--tag=registry.example.com/a:1"]
    commands = [
        ["get"],
        ["get", "app"],
        ["get", "-o", "json"],
        ["rebuild", "app"],
        ["suspend", "app"],
        ["resume", "app"],
    ]
    commands += [["cancel", "app"], ["tree", "app"], create]
    for command in (*commands, ["logs", "app"], ["wait", "app", "--timeout=1"]):
        denied = user.run(*command)
        assert denied.returncode == 1
        assert "error: forbidden: " in denied.stderr
        assert "[KubernetesApiFailed]\nhint: Ask an administrator" in denied.stderr
    namespace.kubectl("create", "--filename=-", given=role)
    account = f"--serviceaccount={namespace.name}:user"
    namespace.kubectl("create", "rolebinding", "user", f"--role={role['metadata']['name']}", account)
    eventually(lambda: user.run("get").returncode == 0, "the right to look")
    for command in commands:
        user.output(*command)
    assert "[LogNotFound]" in user.run("logs", "app").stderr, "allowed, but nothing has been built"
    assert user.run("wait", "app", "--timeout=1").returncode == 124
