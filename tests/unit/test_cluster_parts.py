"""The parts of the test cluster that need neither root nor a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster.binaries import follow, key
from cluster.machine import apt_sources
from cluster.places import ClusterError, Places, places_from_environment
from cluster.processes import eventually
from cluster.push import folder_layer
from cluster.toolchain import as_numbers, required_version, version_of
from quickstart.access import own_places


def test_both_formats_of_apt_sources_are_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.test/debian trixie main\n"
        "deb [arch=amd64 signed-by=/a/key] http://one.test/debian trixie main\n"
        "deb-src http://source.test/debian trixie main\n"
    )
    (tmp_path / "sources.list.d/two.sources").write_text(
        "Types: deb deb-src\nURIs: http://two.test/debian\nSuites: trixie trixie-updates\nComponents: main\n\n"
        "Types: deb\nURIs: http://off.test/debian\nSuites: trixie\nEnabled: no\n"
    )
    found = [("http://one.test/debian", ["trixie"]), ("http://two.test/debian", ["trixie", "trixie-updates"])]
    assert list(apt_sources(tmp_path)) == found


def test_versions_of_go_compare_as_numbers() -> None:
    assert as_numbers("go1.9.7") < as_numbers("1.26.6") < as_numbers("go1.26.10")
    assert as_numbers(required_version()) >= (1, 26)
    assert version_of(Path("/nowhere/go")) == ()


def test_the_programs_are_keyed_by_what_they_are_made_from() -> None:
    assert key() == key()
    assert len(key()) == 16


def test_packages_that_go_compiled_are_no_messages() -> None:
    lines = ["k8s.io/kubernetes/pkg/kubelet\n", "# some/package\n", "a.go:1:2: undefined: b\n"]
    assert follow(iter(lines)) == ["# some/package", "a.go:1:2: undefined: b"]


def test_clusters_side_by_side_share_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEWRIGHT_CLUSTER", "other:7")
    first, other = Places(), places_from_environment()
    for part in ("state", "node_address", "host_address", "pod_cidr", "host_interface", "cgroup", "lock"):
        assert getattr(first, part) != getattr(other, part), part
    assert len(Places(number=255).host_interface) <= 15  # the kernel's limit


def test_the_quickstarts_cluster_is_another_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGEWRIGHT_CLUSTER", raising=False)
    assert (own_places().name, own_places().number) == ("quickstart", 1)
    assert own_places() != places_from_environment()
    monkeypatch.setenv("IMAGEWRIGHT_CLUSTER", "mine:5")
    assert own_places() == places_from_environment()


@pytest.mark.parametrize("value", ["", "a/b", "../x", "a:b", "a:256", "a:-1"])
def test_a_bad_name_of_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("IMAGEWRIGHT_CLUSTER", value)
    with pytest.raises(ClusterError, match="NAME or NAME:N"):
        places_from_environment()


def test_a_layer_is_the_same_whenever_its_files_are(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    first = folder_layer({"bin/a": tmp_path / "a"})
    (tmp_path / "a").touch()
    assert folder_layer({"bin/a": tmp_path / "a"}) == first


def test_waiting_in_vain_says_for_what_and_why() -> None:
    with pytest.raises(ClusterError, match=r"in vain: the moon\nit is day"):
        eventually(lambda: False, "the moon", patience_s=0.1, problem=lambda: "it is day")
