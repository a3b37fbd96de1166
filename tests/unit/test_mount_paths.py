"""Reserved mount paths: the operator's validation and ``kubectl imagewright create --from`` refuse the same ones."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pytest
import yaml
from imagebuilds.kanikopods import GIT, mounted, pod

from imagewright.errors import UnsupportedError
from imagewright_kubectl.kaniko import convert, find_workload
from imagewright_operator.api import ImageBuild
from imagewright_operator.api.volumerules import (
    PROJECTED_SOURCES,
    RESERVED_MOUNT_PATHS,
    RULE,
    is_at_engines_path,
    mount_path_problem,
)
from imagewright_operator.reconcile.validation import problems
from imagewright_operator.settings import Settings

RESERVED = {
    "/kaniko",
    "/imagewright",
    "/proc",
    "/sys",
    "/dev",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/hostname",
    "/var/run/secrets/kubernetes.io",
    "/run/secrets/kubernetes.io",
    *("/bin", "/sbin", "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/busybox", "/boot"),
    *("/etc", "/root", "/run/secrets", "/var/run/secrets"),
}
PARENTS = {posixpath.dirname(path) for path in RESERVED} | {"/var/run", "/var"}
REFUSED = sorted(RESERVED | PARENTS | {f"{path}/below" for path in RESERVED} | {"//etc//hosts/"})
ALLOWED = ["/usrlocal", "/etc2/ssl", "/kaniko2", "/var/lib", "/run/app", "/data", "/mnt/usr", "/workspace"]
OF_THE_SYSTEM = ["/usr/local/bin", "/root/.aws", "/root", "/etc/ssh", "/etc/ssl/certs", "/lib/x86_64-linux-gnu"]


def operator_problems(path: str, **source: object) -> tuple[str, ...]:
    volume = {"name": "v", "mountPath": path, **(source or {"configMap": {"name": "app"}})}
    spec = {
        "source": {"git": {"url": "https://h/a.git"}},
        "output": {"tags": ["r.io/a:1"]},
        "podTemplate": {"volumes": [volume]},
    }
    return problems(ImageBuild.parse({"metadata": {"name": "app"}, "spec": spec}), Settings())


def plugin_errors(path: str, **source: object) -> list[str]:
    manifest = pod(GIT, **mounted(path, **(source or {"configMap": {"name": "app"}})))
    with pytest.raises(UnsupportedError) as error:
        convert(find_workload(yaml.safe_load_all(manifest), file="pod.yaml"))
    assert error.value.message == 'cannot convert container "kaniko" of "pod.yaml" to an ImageBuild: 1 error'
    return [*error.value.excerpt]


def test_the_list_of_reserved_paths() -> None:
    assert set(RESERVED_MOUNT_PATHS) == RESERVED
    page = (Path(__file__).parents[2] / "docs/kubectl.md").read_text()
    documented = page.partition("### Reserved mount paths")[2].partition("##")[0].partition("alike:")[2]
    assert set(re.findall("`([^`]+)`", documented)) == RESERVED


@pytest.mark.parametrize("path", OF_THE_SYSTEM)
def test_where_programs_and_their_settings_are_nothing_is_mounted(path: str) -> None:
    (problem,) = operator_problems(path)
    assert "is reserved for the executor: use a path such as /data or /mnt/NAME" in problem


def test_every_folder_of_the_images_path_is_reserved() -> None:
    text = (Path(__file__).parents[2] / "Dockerfile").read_text()
    paths = re.findall(r"PATH=([^ \n]+)", text)
    folders = [folder for path in paths for folder in path.split(":") if folder.startswith("/")]
    assert len(folders) > 8
    assert [folder for folder in folders if not mount_path_problem(folder)] == []


def test_the_definitions_rule_is_the_operators() -> None:
    patterns = re.findall(r"!self[.]matches[(]'(.*?)'[)]", RULE)
    assert len(patterns) == 2
    odd = [
        "/.",
        "//",
        "/./etc",
        "//root/",
        "/a/../etc",
        "/..a",
        "/var//run/",
        "/var/run/./secrets/a",
        "/run/x",
        "/etc2",
    ]
    for path in (*REFUSED, *ALLOWED, *OF_THE_SYSTEM, *odd):
        assert any(re.search(one, path) for one in patterns) is bool(mount_path_problem(path)), path


def test_a_cluster_may_add_its_mounts_without_making_the_pod_another() -> None:
    """Webhooks of clouds' identities mount tokens there: a Pod's fingerprint has the engine's own paths only."""
    assert not is_at_engines_path("/var/run/secrets/eks.amazonaws.com/serviceaccount")
    assert is_at_engines_path("/kaniko/work")
    assert is_at_engines_path("/var")


@pytest.mark.parametrize("path", REFUSED)
def test_operator_and_plugin_refuse_a_reserved_mount_path(path: str) -> None:
    (problem,) = operator_problems(path)
    assert problem.startswith(f'spec.podTemplate.volumes "v": invalid mountPath "{path}": ')
    reason = problem.partition("mountPath ")[2].partition(": ")[2]
    reason = reason.partition(": use a path")[0] + (
        ": use a path such as /data or /mnt/NAME" if ": use" in reason else ""
    )
    shown = "/" + posixpath.normpath(path).lstrip("/")
    assert plugin_errors(path) == [f'  volume "v" at "{shown}": {reason}: mount it elsewhere']


@pytest.mark.parametrize("path", ALLOWED)
def test_operator_and_plugin_allow_other_mount_paths(path: str) -> None:
    assert operator_problems(path) == ()
    spec = convert(find_workload(yaml.safe_load_all(pod(GIT, **mounted(path, configMap={"name": "app"}))))).spec
    assert [volume["mountPath"] for volume in spec["podTemplate"]["volumes"]] == [path]


def test_the_reason_names_the_reserved_path() -> None:
    assert operator_problems("/etc/hosts/x")[0].endswith(
        '"/etc/hosts" is reserved for the executor: use a path such as /data or /mnt/NAME'
    )
    assert operator_problems("/run")[0].endswith(
        'it would hide "/run/secrets/kubernetes.io", which is reserved for the executor: use a path such as /data or /mnt/NAME'
    )
    assert operator_problems("/")[0].endswith('must be an absolute path other than "/", without ".."')
    assert operator_problems("//")[0].endswith('must be an absolute path other than "/", without ".."')
    assert operator_problems("/a/../data")[0].endswith('must be an absolute path other than "/", without ".."')


def test_operator_and_plugin_refuse_the_same_projected_sources() -> None:
    token = {"sources": [{"serviceAccountToken": {"path": "token"}}]}
    assert "must not project serviceAccountToken" in operator_problems("/data", projected=token)[0]
    (error,) = plugin_errors("/data", projected=token)
    assert "projecting serviceAccountToken is not supported" in error
    for kind in PROJECTED_SOURCES:
        assert operator_problems("/data", projected={"sources": [{kind: {}}]}) == ()


def test_operator_and_plugin_refuse_the_operators_volume_names() -> None:
    manifest = pod(
        GIT,
        volumeMounts=[{"name": "imagewright-work", "mountPath": "/data"}],
        volumes=[{"name": "imagewright-work", "configMap": {"name": "app"}}],
    )
    with pytest.raises(UnsupportedError) as error:
        convert(find_workload(yaml.safe_load_all(manifest)))
    assert 'the prefix "imagewright" is reserved' in error.value.excerpt[0]
