"""Installs the operator with kubectl, from ``deploy/``, with the images and settings of this cluster.

Runs kubectl.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from quickstart.images import ROOT

NAMESPACE = "imagewright-system"
DEPLOYMENT = "deployment/imagewright-operator"
Kubectl = Callable[..., str]


def install(kubectl: Kubectl, images: Mapping[str, str], settings: Mapping[str, object]) -> None:
    """Apply ``deploy/`` with an overlay, and wait for the operator.

    Args:
        images: references by target: ``operator`` (by tag or by digest) and ``executor``.
        settings: of docs/operator.md, without their prefix; what is not text is written as JSON.
    """
    with tempfile.TemporaryDirectory(prefix="imagewright-install-") as folder:
        kubectl("apply", "-k", str(write_overlay(Path(folder), images, settings)))
    kubectl("rollout", "status", DEPLOYMENT, "-n", NAMESPACE, "--timeout=180s")


def write_overlay(folder: Path, images: Mapping[str, str], settings: Mapping[str, object]) -> Path:
    """The kustomize overlay that ``install`` applies, with copies of what it refers to; its folder."""
    for name in ("deploy", "crds"):  # copied: an overlay may only name its neighbours
        shutil.copytree(ROOT / name, folder / name)
    overlay = folder / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(json.dumps(kustomization(images, settings), indent=1))
    return overlay


def uninstall(kubectl: Kubectl) -> None:
    """Remove the operator, its resource and with it all ImageBuilds."""
    kubectl("delete", "-k", str(ROOT / "deploy"), "--ignore-not-found", "--timeout=120s")


def kustomization(images: Mapping[str, str], settings: Mapping[str, object]) -> dict[str, object]:
    """An overlay as an installation would write it (kustomize reads JSON as well)."""
    name, _, digest = images["operator"].partition("@")
    image = {"name": "imagewright/operator", "newName": name, "digest": digest}
    if not digest:
        name, _, tag = name.rpartition(":")
        image = {"name": "imagewright/operator", "newName": name, "newTag": tag}
    values = {"EXECUTOR_IMAGE": images["executor"], **settings}
    literals = [
        f"IMAGEWRIGHT_{key}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
        for key, value in values.items()
    ]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../deploy"],
        "images": [image],
        "configMapGenerator": [
            {"name": "imagewright-settings", "namespace": NAMESPACE, "behavior": "merge", "literals": literals}
        ],
    }
