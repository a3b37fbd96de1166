"""The project's own images, built by the project's own engine and pushed where the cluster can pull them.

Runs ``imagewright build`` from this checkout. The tag is a hash of what an image is made from: what was built before
is not built again.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.binaries import locked
from cluster.places import ClusterError, cache_root
from cluster.progress import step

from imagewright.cli.arguments import parse
from imagewright.cli.request import build_request
from imagewright.errors import RegistryError
from imagewright.http.retry import RetryPolicy
from imagewright.oci.platform import host_platform
from imagewright.reference import Reference
from imagewright.registry.endpoints import RegistryOptions
from imagewright.registry.keychain import Keychain
from imagewright.registry.pull import Puller
from imagewright.registry.transport import Transport

ROOT = Path(__file__).parents[2]
TARGETS = ("executor", "operator")
_SHARED = ("Dockerfile", ".dockerignore", "images", "requirements", "builder", "pyproject.toml", "LICENSE")
_INPUTS = {"executor": _SHARED, "executor-debug": _SHARED, "operator": (*_SHARED, "operator")}


@dataclass(frozen=True, slots=True)
class Target:
    """``repository`` is HOST/PATH; ``flags`` are how the engine reaches it and the base images."""

    repository: str
    flags: tuple[str, ...] = ()


def tag(target: str) -> str:
    """A hash over the names and contents of everything that an image is made from."""
    hasher = hashlib.sha256()
    for name in _INPUTS[target]:
        path = ROOT / name
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if "__pycache__" not in file.parts:
                content = file.read_bytes()
                hasher.update(f"{file.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return hasher.hexdigest()[:16]


def publish(target: Target, names: Sequence[str] = TARGETS) -> dict[str, str]:
    """Build what the registry doesn't have yet; the reference of each image by its target's name in the Dockerfile.

    Raises:
        ClusterError: with what the engine said.
    """
    references = {}
    for name in names:
        reference = f"{target.repository}/{name}:{tag(name)}"
        flags = ("--context", str(ROOT), "--target", name, "--destination", reference, *target.flags)
        with locked(cache_root() / "run" / f"{name}-image.lock"):  # tests' workers want the same one at the same time
            if not is_there(reference, flags):
                with step(f"Building the {name} image with the engine itself", "a minute"):
                    build(flags)
        references[name] = reference
    return references


def is_there(reference: str, flags: Sequence[str]) -> bool:
    """Whether the registry has the image, asked as the engine would ask with these flags."""
    access = build_request(parse(flags, os.environ), os.environ).registry
    options = RegistryOptions(access.hosts, insecure_pull=access.insecure, retry=RetryPolicy(0))
    puller = Puller(Transport(options, Keychain.load(None)))
    try:
        puller.resolve(Reference.parse(reference), host_platform())
    except RegistryError:
        return False  # for whatever reason: the build will tell
    return True


def build(flags: Sequence[str]) -> str:
    """Run ``imagewright build``; what it printed.

    Raises:
        ClusterError: with the end of what the engine said.
    """
    command = [sys.executable, "-m", "imagewright", "build", *flags]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError("the engine failed:\n" + "\n".join(done.stderr.splitlines()[-30:]))
    return done.stdout
