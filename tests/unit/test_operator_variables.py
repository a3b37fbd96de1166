"""Variables that a build may not set: all by which the clouds' SDKs are told where to ask for credentials."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from imagewright_operator.api.envrules import RULE, is_refused, is_reserved
from imagewright_operator.pods.fingerprint import fingerprint
from imagewright_operator.settings import Allowed

PACKAGES = (
    "botocore",
    "boto3",
    "google.auth",
    "google.cloud.storage",
    "google.oauth2",
    "azure.identity",
    "azure.core",
    "msal",
)
NAME = re.compile(r"""["']([A-Z][A-Z0-9]*_[A-Z0-9_]+)["']""")
# Words of names that tell where something is, or what is executed.
TELLING = re.compile(
    "ENDPOINT|HOST|_URI|URL|METADATA|AUTHORITY|EXECUTABLE|CONFIG|DIRECTORY|CONF$|ROOT|_IP$|TOKEN_FILE|PROXY|CA_|DATA_PATH|IMDS"
)
HARMLESS = {
    # which of the cloud's own servers, or how they are asked
    *("AWS_ACCOUNT_ID_ENDPOINT_MODE", "AWS_STS_REGIONAL_ENDPOINTS", "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT"),
    *("AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"),
    *("AWS_DISABLE_HOST_PREFIX_INJECTION", "AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS"),
    # the place of a source, which the engine reads by itself
    "STORAGE_EMULATOR_HOST",
}
CHECKED = {
    "AWS_ENDPOINT_URL", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AZURE_AUTHORITY_HOST", "GCE_METADATA_HOST", "GCE_METADATA_IP",
    "CLOUDSDK_CONFIG", "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AWS_CONFIG_FILE",
}  # fmt: skip


def names_read() -> set[str]:
    found: set[str] = set()
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None, package
        assert spec.submodule_search_locations is not None, package
        for folder in spec.submodule_search_locations:
            for file in Path(folder).rglob("*.py"):
                found |= set(NAME.findall(file.read_text(encoding="utf-8", errors="replace")))
    return found


def test_what_redirects_an_sdk_is_refused() -> None:
    read = names_read()
    clouds = re.compile("^(AWS|AZURE|BOTO|CLOUDSDK|GCE|GOOGLE|IDENTITY|IMDS|MSI|MSAL|STORAGE)_|^API_ENDPOINT_OVERRIDE$")
    telling = {name for name in read if clouds.match(name) and TELLING.search(name)}
    assert telling >= CHECKED
    assert {name for name in telling if not is_refused(name)} - HARMLESS == set()


@pytest.mark.parametrize(
    "name", ["AWS_ENDPOINT_URL_S3", "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "SYSTEM_OIDCREQUESTURI"]
)
def test_what_no_list_has_is_refused_too(name: str) -> None:
    assert is_refused(name)


def test_nothing_is_refused_that_is_allowed_by_default() -> None:
    allowed = [name for name in Allowed().env.patterns if "*" not in name]
    assert len(allowed) > 20
    assert [name for name in allowed if is_refused(name)] == []


@pytest.mark.parametrize(
    "name", ["AWS_WEB_IDENTITY_TOKEN_FILE", "AZURE_AUTHORITY_HOST", "AWS_CONTAINER_CREDENTIALS_FULL_URI"]
)
def test_a_clusters_webhook_may_set_them(name: str) -> None:
    """A Pod that has them is no other Pod than the one that the operator has signed."""
    assert is_refused(name)
    assert not is_reserved(name)
    pod = {"spec": {"containers": [{"name": "executor", "image": "a"}]}}
    more = {"spec": {"containers": [{"name": "executor", "image": "a", "env": [{"name": name, "value": "b"}]}]}}
    assert fingerprint(pod) == fingerprint(more)


def test_the_definitions_rule_is_the_operators() -> None:
    own, reserved, redirecting = re.findall(r"self[.]matches[(]'(.*?)'[)]", RULE)
    for name in (*names_read(), *Allowed().env.patterns, "GIT_EXEC_PATH", "GIT_TOKEN", "PATH", "LD_PRELOAD"):
        fine = re.search(own, name) or not (re.search(reserved, name) or re.search(redirecting, name))
        assert bool(fine) is not is_refused(name), name
