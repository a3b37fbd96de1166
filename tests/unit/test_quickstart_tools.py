"""Which cluster the quickstart takes, and what it asks of kind, k3d and minikube: by stand-ins with their
interfaces.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster.places import ClusterError, Places
from quickstart.__main__ import access_of, main
from quickstart.localclusters import K3d, K3s, Kind, Minikube, choose
from quickstart.record import record, recorded

# Answers as the tools do, refuses flags that they don't document and names that containers have, and notes each call
# with what it was given.
_STAND_IN = """#!{python}
import argparse, json, os, pathlib, sys
state = pathlib.Path({state!r})
name = pathlib.Path(sys.argv[0]).name
words = sys.argv[1:]
given = "" if sys.stdin.isatty() or words[:1] == ["info"] else sys.stdin.read()
with (state / "calls").open("a") as calls:
    calls.write(json.dumps([name, words, given, os.environ.get("KUBECONFIG", "")]) + chr(10))
verb = [word for word in words if not word.startswith("-")]
made = state / name
containers = state / "containers"
names = containers.read_text().split() if containers.exists() else ["other"]
FLAGS = {{
    "kind": {{"--name", "--config", "--wait", "-"}},
    "k3d": {{"--registry-config", "--kubeconfig-update-default", "--kubeconfig-switch-context", "--wait", "-o"}},
    "minikube": {{"--profile", "--driver", "--container-runtime", "--insecure-registry"}},
    "docker": {{"--all", "--format", "--detach", "--restart", "--publish", "--name", "--force", "--volumes", "-i", "-p"}},
}}
def flag(wanted):
    return next((word.partition("=")[2] for word in words if word.startswith(wanted + "=")), "")
def contain(container):
    if container in names:
        sys.exit(f"Conflict. The container name {{container}} is already in use")
    containers.write_text(" ".join([*names, container]))
for word in words:
    if word.startswith("-") and word.partition("=")[0] not in FLAGS[name]:
        sys.exit(f"unknown flag: {{word}}")
if name == "docker":
    if verb[0] == "info" and (state / "no-daemon").exists():
        sys.exit("Cannot connect to the Docker daemon")
    elif verb[0] == "ps":
        stopped = (state / "stopped").exists()
        print(*(one for one in names if "--all" in words or not (stopped and "registry" in one)), sep=chr(10))
    elif verb[:2] == ["network", "inspect"]:
        print("172.17.0.1")
    elif verb[0] == "run":
        contain(flag("--name"))
    elif verb[0] in ("port", "rm", "start") and verb[1] not in names:
        sys.exit(f"No such container: {{verb[1]}}")
    elif verb[0] == "start":
        (state / "stopped").unlink(missing_ok=True)
    elif verb[0] == "port" and (state / "stopped").exists():
        sys.exit("No public port")
    elif verb[0] == "port":
        print("172.17.0.1:5001")
    elif verb[0] == "rm":
        containers.write_text(" ".join(one for one in names if one != verb[1]))
elif verb[:2] == ["get", "clusters"]:
    print(made.read_text() if made.exists() else "")
elif verb[:2] == ["cluster", "list"]:
    print(json.dumps([{{"name": made.read_text()}}] if made.exists() else []))
elif "create" in verb:
    made.write_text("imagewright-quickstart")
elif "kubeconfig" in verb:
    print("kubeconfig of " + name)
elif verb[:2] == ["get", "nodes"]:
    print("node-1" + chr(10) + "node-2")
elif verb[:1] == ["start"]:
    if not made.exists():
        contain(flag("--profile"))  # by --driver=docker, the node is a container of the profile's name
        made.touch()
    pathlib.Path(os.environ["KUBECONFIG"]).write_text("kubeconfig of minikube")
elif "delete" in verb:
    if (state / "fails").exists():
        sys.exit("cannot delete it")
    made.unlink(missing_ok=True)
"""

Machine = Callable[..., None]


class Calls:
    def __init__(self, file: Path) -> None:
        self._file = file

    def all(self) -> list[tuple[str, str, str, str]]:
        """Program, its words on one line, standard input, $KUBECONFIG."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [(name, " ".join(words), given, config) for name, words, given, config in map(json.loads, lines)]

    def lines(self) -> list[str]:
        return [f"{name} {words}" for name, words, _, _ in self.all()]


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path / "calls")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Puts programs on a PATH where there are no others."""
    monkeypatch.setenv("IMAGEWRIGHT_CACHE", str(tmp_path / "cache"))

    def install(*names: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in names:
            (folder / name).write_text(_STAND_IN.format(python=sys.executable, state=str(tmp_path)))
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return install


def test_the_first_tool_that_works_is_taken_and_named(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine("docker", "k3d", "minikube")
    tool = choose()
    assert tool is not None
    assert tool.name == "k3d"
    assert "Using k3d, which is installed" in "".join(capsys.readouterr())


def test_without_a_tool_the_own_cluster_is_taken_and_every_reason_is_given(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine("docker", "kind")
    (tmp_path / "no-daemon").touch()
    assert choose() is None
    told = "".join(capsys.readouterr())
    assert (
        "kind: docker's daemon doesn't answer; k3d: not installed; minikube: not installed; k3s: not installed" in told
    )


def test_a_tool_that_is_asked_for_and_not_there_is_an_error(machine: Machine) -> None:
    machine("docker", "kind")
    with pytest.raises(ClusterError, match=r"^cannot use minikube: not installed$"):
        choose("minikube")


def test_kind_gets_a_registry_that_each_node_pulls_from(machine: Machine, calls: Calls) -> None:
    machine("docker", "kind")
    kubeconfig, host = Kind().start()
    assert (kubeconfig.read_text(), host) == ("kubeconfig of kind\n", "172.17.0.1:5001")
    flags = "--detach --restart=always --publish=172.17.0.1:5001:5000 --name=imagewright-quickstart-registry"
    assert f"docker run {flags} registry:2" in calls.lines()
    (create,) = (given for name, words, given, _ in calls.all() if (name, words[:6]) == ("kind", "create"))
    assert 'config_path = "/etc/containerd/certs.d"' in create
    folder = "/etc/containerd/certs.d/172.17.0.1:5001"
    for node in ("node-1", "node-2"):
        assert f"docker exec {node} mkdir -p {folder}" in calls.lines()
        copied = [
            given for _, words, given, _ in calls.all() if words == f"exec -i {node} cp /dev/stdin {folder}/hosts.toml"
        ]
        assert copied == ['server = "http://172.17.0.1:5001"\n']


@pytest.mark.parametrize("tool", [Kind(), K3d(), Minikube()], ids=["kind", "k3d", "minikube"])
def test_what_runs_is_used_again_and_what_was_made_is_deleted(
    machine: Machine, calls: Calls, tmp_path: Path, tool: Kind | K3d | Minikube
) -> None:
    machine("docker", tool.name)
    assert tool.start() == tool.start()
    assert sum("create" in line for line in calls.lines()) == (0 if tool.name == "minikube" else 1)
    assert sum(line.startswith("docker run") for line in calls.lines()) == 1
    tool.delete()
    assert not (tmp_path / tool.name).exists()
    assert calls.lines()[-1] == "docker rm --force --volumes imagewright-quickstart-registry"


def test_a_registry_that_was_stopped_is_started_again(machine: Machine, calls: Calls, tmp_path: Path) -> None:
    machine("docker", "kind")
    before = Kind().start()
    (tmp_path / "stopped").touch()
    assert Kind().start() == before
    assert sum(line.startswith("docker run") for line in calls.lines()) == 1


def test_k3d_reads_the_registry_from_a_file_and_leaves_the_users_kubeconfig(machine: Machine, calls: Calls) -> None:
    machine("docker", "k3d")
    kubeconfig, host = K3d().start()
    assert (kubeconfig.read_text(), host) == ("kubeconfig of k3d\n", "172.17.0.1:5001")
    (create,) = (line for line in calls.lines() if line.startswith("k3d cluster create"))
    assert "--kubeconfig-update-default=false --kubeconfig-switch-context=false" in create
    file = Path(create.partition("--registry-config=")[2].split()[0])
    assert json.loads(file.read_text()) == {"mirrors": {host: {"endpoint": [f"http://{host}"]}}}


def test_minikube_trusts_the_registry_and_writes_a_kubeconfig_of_its_own(machine: Machine, calls: Calls) -> None:
    machine("docker", "minikube")
    kubeconfig, host = Minikube().start()
    assert kubeconfig.read_text() == "kubeconfig of minikube"
    (start,) = (words for name, words, _, _ in calls.all() if name == "minikube")
    assert f"--insecure-registry={host}" in start
    assert all(config == str(kubeconfig) for name, _, _, config in calls.all() if name == "minikube")


def test_k3s_is_taken_with_a_registry_of_its_settings_and_nothing_of_it_changes(
    machine: Machine, tmp_path: Path
) -> None:
    machine("k3s")
    folder = tmp_path / "etc"
    tool = K3s(folder)
    assert tool.obstacle() == f"cannot read {folder}/k3s.yaml: it isn't running, or you aren't root"
    folder.mkdir()
    (folder / "k3s.yaml").write_text("kubeconfig of k3s")
    assert tool.obstacle() == f"no plain-HTTP registry in {folder}/registries.yaml"
    mirrors = {
        "docker.io": {"endpoint": ["https://m.example.com"]},
        "10.0.0.1:5000": {"endpoint": ["http://10.0.0.1:5000/"]},
    }
    (folder / "registries.yaml").write_text(json.dumps({"mirrors": mirrors}))
    before = sorted(os.listdir(folder))
    assert tool.obstacle() == ""
    assert tool.start() == (folder / "k3s.yaml", "10.0.0.1:5000")
    tool.delete()
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (b"mirrors: [", "while parsing a flow node"),
        (b"mirrors: \xff", "'utf-8' codec can't decode byte 0xff"),
        (b"- mirrors", "mirrors must map each host to its endpoint, a list of URLs"),
        (b"mirrors: {a: {endpoint: 5}}", "mirrors must map each host to its endpoint, a list of URLs"),
    ],
)
def test_settings_of_k3s_that_cannot_be_read_are_why_it_is_not_taken(
    machine: Machine, tmp_path: Path, settings: bytes, why: str
) -> None:
    machine("k3s")
    (tmp_path / "k3s.yaml").touch()
    (tmp_path / "registries.yaml").write_bytes(settings)
    obstacle = K3s(tmp_path).obstacle()
    assert obstacle.startswith(f"cannot read {tmp_path}/registries.yaml: {why}")
    assert "\n" not in obstacle


def given(way: str) -> argparse.Namespace:
    return argparse.Namespace(kubeconfig=None, registry=None, way=way, insecure=False, mirror="")


@pytest.fixture
def downs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to clusters other than those of the tools."""
    done: list[str] = []
    monkeypatch.setenv("IMAGEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IMAGEWRIGHT_CLUSTER", raising=False)
    monkeypatch.setattr("quickstart.__main__.down", lambda places: done.append(f"down {places.name}"))
    monkeypatch.setattr("quickstart.__main__.clear", lambda kubeconfig: done.append(f"clear {kubeconfig}"))
    return done


def test_the_tool_of_the_last_time_is_used_again_and_every_one_is_deleted(
    machine: Machine, tmp_path: Path, downs: list[str]
) -> None:
    machine("docker", "kind", "k3d", "minikube", "kubectl")
    for way in ("minikube", "k3d"):
        access_of(given(way))
    assert access_of(given("")).kubectl[1].endswith("/k3d.kubeconfig")
    access_of(given("minikube"))
    assert access_of(given("")).kubectl[1].endswith("/minikube.kubeconfig")
    assert recorded() == ["k3d", "minikube"]
    main(["--down"])
    assert not any((tmp_path / name).exists() for name in ("k3d", "minikube"))
    assert (tmp_path / "containers").read_text().split() == ["other", "imagewright-quickstart"]  # the node's
    assert (recorded(), downs) == ([], [])
    main(["--down"])
    assert downs == ["down quickstart"]


def test_a_cluster_that_was_not_deleted_stays_in_the_record(machine: Machine, tmp_path: Path, downs: list[str]) -> None:
    machine("docker", "kind", "kubectl")
    access_of(given("kind"))
    (tmp_path / "fails").touch()
    with pytest.raises(ClusterError, match="cannot delete it"):
        main(["--down"])
    (tmp_path / "bin" / "kind").rename(tmp_path / "kind-elsewhere")
    with pytest.raises(ClusterError, match=r"^cannot run kind: not installed$"):
        main(["--down"])
    assert recorded() == ["kind"]
    (tmp_path / "kind-elsewhere").rename(tmp_path / "bin" / "kind")
    (tmp_path / "fails").unlink()
    main(["--down"])
    assert (recorded(), downs) == ([], [])


def test_the_own_cluster_goes_too_when_it_runs_and_k3s_is_only_cleared(
    machine: Machine, downs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("k3s")
    record("k3s")
    monkeypatch.setattr("quickstart.__main__.Processes.supervisor_pid", lambda _: 1)
    main(["--down"])
    assert downs == ["clear /etc/rancher/k3s/k3s.yaml", "down quickstart"]
    assert recorded() == []


def test_only_a_given_cluster_gets_the_logins_of_docker(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("docker", "kind", "kubectl")
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert access_of(given("kind")).login is None
    (tmp_path / "kubeconfig").touch()
    users = given("")
    users.kubeconfig, users.registry = tmp_path / "kubeconfig", "registry.example.com/imagewright"
    assert access_of(users).login == tmp_path / "config.json"


def test_two_ways_to_a_cluster_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--with=kind", "--kubeconfig=file", "--registry=registry.example.com/imagewright"])
    assert "--with and --kubeconfig are two ways: leave one out" in capsys.readouterr().err


def test_an_own_cluster_that_has_died_is_not_taken_for_one_that_runs(
    machine: Machine, tmp_path: Path, downs: list[str]
) -> None:
    machine("docker", "kind", "kubectl")
    dead = Places("quickstart", 1, tmp_path / "cache").supervisor_pid
    dead.parent.mkdir(parents=True)
    dead.write_text(str(os.getpid()))  # a process, but not a supervisor
    assert access_of(given("")).kubectl[1].endswith("/kind.kubeconfig")
