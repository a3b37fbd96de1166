"""The real Helm against a cluster of the tests.

I/O: runs ``helm``, which keeps its files in a folder that is given.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from installing import programs

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "imagewright"
Done = subprocess.CompletedProcess[str]


class Helm:
    """``helm`` for one cluster.

    Raises:
        ClusterError: it isn't there and can't be built.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._program = programs.helm()
        places = {f"HELM_{kind}_HOME": str(folder / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment = {**os.environ, **places, "KUBECONFIG": str(kubeconfig)}

    def __call__(self, *arguments: str, values: Mapping[str, Any] | None = None) -> Done:
        """Run it; ``values`` are a values file."""
        given = ["--values=-"] if values is not None else []
        command = [str(self._program), *arguments, *given]
        stdin = json.dumps(values or {})
        return subprocess.run(command, input=stdin, env=self._environment, capture_output=True, text=True, check=False)
