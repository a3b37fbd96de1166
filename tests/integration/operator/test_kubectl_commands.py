"""``kubectl imagewright`` on a real API server, and the real operator where a build is needed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.plugin import Plugin

AGE = re.compile(r"\s\d+s\s")


def test_get_shows_what_kubectl_shows(plugin: Plugin, namespace: Namespace) -> None:
    namespace.apply("one")
    namespace.apply("two", target="runtime")
    for options in ([], ["one"], ["-o", "wide"], ["-A"]):
        ours, theirs = plugin.output("get", *options), namespace.kubectl("get", "imagebuilds", *options)
        assert AGE.sub(" ", ours).split() == AGE.sub(" ", theirs).split()
    assert json.loads(plugin.output("get", "two", "-o", "json"))["spec"]["target"] == "runtime"
    assert plugin.output("get", "-o", "name") == "imagebuild.imagewright.dev/one\nimagebuild.imagewright.dev/two\n"
    assert "managedFields" not in plugin.output("get", "-o", "yaml")


def test_rebuild_builds_again_and_wait_waits_for_it(plugin: Plugin, namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    waiting = plugin.start("wait", "app")
    namespace.pushes(namespace.pod())
    out, err = waiting.communicate()
    assert waiting.returncode == 0
    assert out == f"imagebuild.imagewright.dev/app built: {namespace.tag()}@sha256:{'a' * 64}\n"
    assert "Pending: PodPending" in err
    operator.freeze()  # it hasn't seen what is asked for next: the conditions still say that all is done
    assert plugin.output("rebuild", "app") == "imagebuild.imagewright.dev/app rebuild requested\n"
    timed_out = plugin.run("wait", "app", "--timeout=1s")
    assert timed_out.returncode == 124
    assert timed_out.stderr.count("[Timeout]") == 1
    operator.thaw()
    waiting = plugin.start("wait", "app", "-o", "json")
    namespace.phase("Pending")
    namespace.pushes(namespace.pod(), "b")
    out, _ = waiting.communicate()
    assert waiting.returncode == 0
    assert json.loads(out)["status"]["image"]["digest"] == "sha256:" + "b" * 64


def test_cancel_ends_a_build_and_resume_lets_it_build(plugin: Plugin, namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    namespace.starts(namespace.pod())
    namespace.phase("Running")
    waiting = plugin.start("wait", "app")
    assert plugin.output("cancel", "app") == "imagebuild.imagewright.dev/app cancelled\n"
    _, err = waiting.communicate()
    assert waiting.returncode == 1
    assert "error: spec.cancelled is true: set it to false to start a build [Cancelled]" in err
    assert "[Cancelled]" in err
    assert "note: no build is running; none starts until" in plugin.run("cancel", "app").stderr
    noted = plugin.run("rebuild", "app")
    assert "note: spec.cancelled is true" in noted.stderr
    assert plugin.run("wait", "app").returncode == 1
    plugin.output("resume", "app")
    assert namespace.get("imagebuild", "app")["spec"].get("cancelled", False) is False
    namespace.phase("Pending")


def test_suspend_prevents_builds(plugin: Plugin, namespace: Namespace, operator: Operator) -> None:
    namespace.apply(suspend=True)
    namespace.becomes("False Suspended")
    plugin.output("resume", "app")
    namespace.pushes(namespace.pod())
    namespace.phase("Succeeded")
    assert "suspended" in plugin.output("suspend", "app")
    assert "after `kubectl imagewright resume app`" in plugin.run("rebuild", "app").stderr
    namespace.becomes("False Suspended")
    assert plugin.run("wait", "app", "--timeout=1").returncode == 124


def test_wait_ends_when_the_imagebuild_is_deleted(plugin: Plugin, namespace: Namespace) -> None:
    namespace.apply()
    with plugin.start("wait", "app") as waiting:
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == "not yet seen by the operator\n"
        namespace.kubectl("delete", "imagebuild", "app")
        assert (
            f'ImageBuild "app" not found in namespace "{namespace.name}" [ImageBuildNotFound]' in waiting.stderr.read()
        )
    assert waiting.returncode == 1


def test_errors_have_a_hint(
    plugin: Plugin, plugin_of: Callable[[Path], Plugin], api: ApiServer, namespace: Namespace
) -> None:
    for words in (["get", "nix"], ["rebuild", "nix"], ["cancel", "nix"], ["wait", "nix"]):
        done = plugin.run(*words)
        assert done.returncode == 1
        assert f'error: ImageBuild "nix" not found in namespace "{namespace.name}" [ImageBuildNotFound]' in done.stderr
        assert "hint: " in done.stderr
    stranger = plugin_of(api.kubeconfig("unknown-token")).run("get")
    assert (stranger.returncode, "[KubernetesApiFailed]" in stranger.stderr) == (1, True)
    nowhere = plugin_of(api.kubeconfig("admin-token", "https://127.0.0.1:1")).run("get")
    assert (nowhere.returncode, "[KubernetesApiFailed]" in nowhere.stderr) == (1, True)
    unreadable = plugin_of(Path(api.certificate)).run("get")
    assert "cannot use kubeconfig" in unreadable.stderr
    soon = plugin.run("wait", "app", "--timeout=soon")
    assert soon.returncode == 2
    assert soon.stderr.startswith('error: invalid --timeout value "soon": not a duration [UsageInvalid]\nhint: ')
