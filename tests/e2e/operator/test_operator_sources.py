"""Sources other than git, and a layer cache, by the operator in a real cluster."""

from __future__ import annotations

import gzip
import hashlib
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import partial

import pytest
from archives.tars import tar_of
from cluster.client import Cluster
from imagebuilds.manifests import container
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]

# A context below a folder, as git hosts pack them.
FILES = {"app/Dockerfile": b"FROM busybox\nCOPY file /file\nCMD cat /file\n", "app/file": b"from the archive\n"}
ARCHIVE = gzip.compress(tar_of(FILES))


def stored(cluster: Cluster, repository: str, data: bytes) -> str:
    """The address of ``data`` as a blob of the open registry, which Pods reach over plain HTTP."""
    digest = hashlib.sha256(data).hexdigest()
    base = f"{cluster.registry.url}/v2/{repository}/blobs"
    with urllib.request.urlopen(urllib.request.Request(f"{base}/uploads/", method="POST"), timeout=10) as answer:
        place = urllib.parse.urljoin(base, answer.headers["Location"])
    joined = f"{place}{'&' if '?' in place else '?'}digest=sha256:{digest}"
    headers = {"Content-Type": "application/octet-stream"}
    put = urllib.request.Request(joined, data=data, headers=headers, method="PUT")
    urllib.request.urlopen(put, timeout=10).close()
    return f"{base}/sha256:{digest}"


def test_an_archive_at_a_url_is_built_if_its_hash_matches(
    cluster: Cluster, builds: Namespace, operator: Operator
) -> None:
    url = stored(cluster, f"{builds.name}/context", ARCHIVE)
    digest = hashlib.sha256(ARCHIVE).hexdigest()
    builds.apply("good", source={"http": {"url": url, "sha256": digest}}, contextDir="app")
    builds.apply("bad", source={"http": {"url": url, "sha256": "0" * 64}}, contextDir="app")
    status = builds.phase("Succeeded", "good")
    assert cluster.run_pod("runs", status["image"]["reference"], namespace=builds.name) == "from the archive\n"
    failed = builds.phase("Failed", "bad")
    assert digest in failed["build"]["failure"]["message"]


def test_a_build_waits_for_missing_credentials(cluster: Cluster, builds: Namespace, operator: Operator) -> None:
    url = stored(cluster, f"{builds.name}/context", ARCHIVE)
    builds.apply("source", source={"http": {"url": url, "secretRef": {"name": "late"}}}, contextDir="app")
    mutual = {"host": "mutual.example.com", "clientCertificateSecretRef": {"name": "late"}}
    builds.apply("mutual", registries=[mutual])
    for name in ("source", "mutual"):
        status = builds.becomes("False SecretNotFound", name)
        assert "late" in status["conditions"][0]["message"]
    given = ("--from-literal=bearerToken=x", "--from-literal=tls.crt=x", "--from-literal=tls.key=x")
    builds.kubectl("create", "secret", "generic", "late", *given)
    builds.phase("Succeeded", "source")
    builds.phase("Succeeded", "mutual")


def test_a_context_on_a_volume_filled_by_another_pod(
    cluster: Cluster, builds: Namespace, operators: Callable[..., Operator], claim: str
) -> None:
    operators(POD_PROFILE="plain")  # a volume of the node's own can't be mapped into a Pod's user namespace everywhere
    mounted = {"volumeMounts": [{"name": "claimed", "mountPath": "/sources"}]}
    fill = "mkdir -p /sources/team/app && cd /sources/team/app && printf 'FROM busybox\\nCOPY . /got\\n' >Dockerfile"
    cluster.run_pod(
        "fills",
        f"{cluster.registry.host}/library/busybox",
        ["sh", "-c", fill],
        namespace=builds.name,
        container=mounted,
        volumes=[{"name": "claimed", "persistentVolumeClaim": {"claimName": claim}}],
    )
    builds.apply("whole", source={"volume": {"claimName": claim}})
    assert builds.phase("Failed", "whole")["build"]["failure"]["reason"] == "DockerfileNotFound"
    builds.apply(source={"volume": {"claimName": claim, "subPath": "team/app"}})
    status = builds.phase("Succeeded")
    (pod,) = builds.pods()
    (mount,) = [one for one in container(pod)["volumeMounts"] if one.get("subPath")]
    assert mount["readOnly"] is True
    reference = status["image"]["reference"]
    assert cluster.run_pod("lists", reference, ["ls", "/got"], namespace=builds.name) == "Dockerfile\n"


def test_the_second_build_uses_the_layer_cache(cluster: Cluster, builds: Namespace, operator: Operator) -> None:
    repository = f"{cluster.registry.host}/{builds.name}/cache"
    text = "FROM busybox\nRUN date +%N >/made\nRUN test -s /made\nLABEL number={}\n"
    digests, steps = [], []
    for number in (1, 2):
        builds.apply(source={"inline": {"dockerfile": text.format(number)}}, cache={"repository": repository})
        eventually(partial(_is_at, builds, number), "its build")
        status = builds.phase("Succeeded")
        digests.append(status["image"]["digest"])
        steps.append([one for one in status["build"]["steps"] if "RUN" in one["name"]])
    first, second = steps
    assert [one.get("cached", False) for one in first] == [False, False]
    assert all(one["cacheMiss"] for one in first)
    assert [one.get("cached", False) for one in second] == [True, True]
    assert digests[0] != digests[1], "the label is another"


def _is_at(builds: Namespace, number: int) -> bool:
    return bool(builds.status().get("build", {}).get("number") == number)
