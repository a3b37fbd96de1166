"""Where a reference is asked for: mirrors, endpoints, Docker Hub, and how strictly."""

from __future__ import annotations

import pytest

from imagewright.contract.request import RegistrySettings
from imagewright.errors import UsageError
from imagewright.http.session import Tls
from imagewright.reference import Reference
from imagewright.registry.endpoints import Endpoint, Endpoints, RegistryOptions, parse_map

DEBIAN = Reference.parse("debian:trixie")
APP = Reference.parse("registry.test/team/app:1")


def endpoints(*settings: RegistrySettings, **options: bool) -> Endpoints:
    return Endpoints(RegistryOptions(settings, **options))  # type: ignore[arg-type]


def test_docker_hub_is_at_another_host_than_its_name() -> None:
    assert endpoints().for_pull(DEBIAN) == [Endpoint("registry-1.docker.io", "", "docker.io")]
    assert endpoints().for_push(DEBIAN).host == "registry-1.docker.io"
    assert endpoints().for_push(DEBIAN).repository(DEBIAN) == "library/debian"


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_settings_for_any_name_of_docker_hub_serve_all(host: str) -> None:
    found = endpoints(RegistrySettings(host=host, mirrors=("mirror.test",))).for_pull(DEBIAN)
    assert [str(e) for e in found] == ["mirror.test", "registry-1.docker.io"]


def test_mirrors_come_first_with_their_own_settings_and_only_for_pulls() -> None:
    found = endpoints(
        RegistrySettings(host="registry.test", mirrors=("https://a.test/cache/", "b.test:5000"), skip_tls_verify=True),
        RegistrySettings(host="b.test:5000", insecure=True, ca_file="/b.crt"),
    )
    a, b, home = found.for_pull(APP)
    assert (a, a.repository(APP)) == (Endpoint("a.test", "cache", "a.test"), "cache/team/app")
    assert b == Endpoint("b.test:5000", "", "b.test:5000", plain_http=True, tls=Tls(ca_file="/b.crt"))
    assert home == Endpoint("registry.test", "", "registry.test", tls=Tls(verify=False))
    assert found.for_push(APP) == home


def test_an_endpoint_changes_the_address_and_not_the_login() -> None:
    found = endpoints(RegistrySettings(host="docker.io", endpoint="test.test:5000/hub"))
    for endpoint in (found.for_push(DEBIAN), *found.for_pull(DEBIAN)):
        assert (endpoint.host, endpoint.login_host) == ("test.test:5000", "docker.io")
        assert endpoint.repository(DEBIAN) == "hub/library/debian"
        assert endpoint.login_repository("hub/library/debian") == "library/debian", "logins are kept by the name's path"


def test_a_mirrors_path_is_part_of_the_name_that_its_login_is_for() -> None:
    mirror = endpoints(RegistrySettings(host="docker.io", mirrors=("mirror.test/hub",))).for_pull(DEBIAN)[0]
    assert mirror.login_host == "mirror.test"
    assert mirror.login_repository("hub/library/debian") == "hub/library/debian"


def test_an_endpoint_is_reached_by_its_own_settings_where_it_has_some() -> None:
    found = endpoints(
        RegistrySettings(host="docker.io", endpoint="test.test:5000", ca_file="/hub.crt"),
        RegistrySettings(host="test.test:5000", ca_file="/own.crt"),
    )
    assert found.for_push(DEBIAN).tls.ca_file == "/own.crt"


def test_general_switches_hold_for_their_direction() -> None:
    found = endpoints(insecure_push=True)
    assert found.for_push(APP).plain_http
    assert not found.for_pull(APP)[0].plain_http
    assert endpoints(insecure_pull=True).for_pull(APP)[0].plain_http
    skipping = endpoints(skip_tls_verify_push=True)
    assert not skipping.for_push(APP).tls.verify
    assert skipping.for_pull(APP)[0].tls.verify


def test_maps_of_the_command_line() -> None:
    pairs = parse_map(["docker.io=a.test/x;quay.test=b.test", "index.docker.io=c.test"], "registry-map")
    assert pairs == [("docker.io", "a.test/x"), ("quay.test", "b.test"), ("docker.io", "c.test")]
    for wrong in ("docker.io", "=x", "docker.io="):
        with pytest.raises(UsageError, match="--registry-map"):
            parse_map([wrong], "registry-map")
