"""The project's own images, built by its engine and pushed to the test cluster's registry; and deploy/ applied with them.

I/O: runs the engine and kubectl. Used by the end-to-end tests. An image is built once for a state of the sources: its
tag is their hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from cluster.client import Cluster

ROOT = Path(__file__).parents[2]
_SOURCES = ("Dockerfile", ".dockerignore", "images", "builder", "operator", "requirements", "pyproject.toml")
_KINDS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def sources_key() -> str:
    """Of everything that the images are made from."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        top = ROOT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_mode & 0o111}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def image(cluster: Cluster, target: str) -> str:
    """Reference of the image of a target of the Dockerfile; built if the cluster's registry has none of these sources."""
    host = cluster.registry.host
    repository, key = f"imagewright/{target}", sources_key()
    if not _is_there(f"{cluster.registry.url}/v2/{repository}/manifests/{key}"):
        command = [sys.executable, "-m", "imagewright", "build", f"--context={ROOT}", f"--target={target}"]
        command += [f"--destination={host}/{repository}:{key}", f"--registry-map=docker.io={host}"]
        command += ["--insecure", f"--insecure-registry={host}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return f"{host}/{repository}:{key}"


def settings(cluster: Cluster) -> dict[str, str]:
    """Settings with which builds find the cluster's registries under the names that Dockerfiles use."""
    host = cluster.registry.host
    registries = [{"host": "docker.io", "endpoint": host, "insecure": True}, {"host": host, "insecure": True}]
    return {"EXECUTOR_IMAGE": image(cluster, "executor"), "REGISTRIES": json.dumps(registries)}


def install(cluster: Cluster) -> None:
    """``kubectl apply -k`` of an overlay of deploy/ as a user would write it; returns when the operator is ready."""
    name, _, tag = image(cluster, "operator").rpartition(":")
    with tempfile.TemporaryDirectory() as folder:
        overlay = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(ROOT / "deploy", os.path.realpath(folder))],
            "images": [{"name": "imagewright/operator", "newName": name, "newTag": tag}],
            "configMapGenerator": [
                {
                    "name": "imagewright-settings",
                    "namespace": "imagewright-system",
                    "behavior": "merge",
                    "literals": [f"IMAGEWRIGHT_{name}={value}" for name, value in settings(cluster).items()],
                }
            ],
        }
        Path(folder, "kustomization.yaml").write_text(json.dumps(overlay))
        cluster.kubectl("apply", "-k", folder)
    where = ("--namespace=imagewright-system", "deployment/imagewright-operator")
    cluster.kubectl("rollout", "status", *where, "--timeout=120s")


def uninstall(cluster: Cluster) -> None:
    """The operator stops; the CRD and all ImageBuilds stay."""
    where = ("--namespace=imagewright-system", "deployment/imagewright-operator")
    cluster.try_kubectl("scale", *where, "--replicas=0")
    cluster.try_kubectl("wait", "--namespace=imagewright-system", "pod", "--all", "--for=delete", "--timeout=60s")


def _is_there(url: str) -> bool:
    request = urllib.request.Request(url, method="HEAD", headers={"Accept": _KINDS})
    try:
        with urllib.request.urlopen(request, timeout=10):
            return True
    except urllib.error.HTTPError:
        return False
