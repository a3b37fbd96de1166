"""What Argo CD and Flux make of an ImageBuild, by the files of deploy/ and real interpreters of Lua and CEL.

I/O: reads those files, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cel
import yaml
from imagebuilds.kstatus import kstatus
from lupa.lua51 import LuaRuntime  # the language of Argo CD's interpreter

from imagewright_operator.api import API_VERSION, GROUP, KIND

DEPLOY = Path(__file__).parents[2] / "deploy"
Json = Mapping[str, Any]
# Argo CD's words for kstatus's; a sync waits at "Suspended" as it does at "Progressing".
_ARGO = {"Progressing": "InProgress", "Suspended": "InProgress", "Healthy": "Current", "Degraded": "Failed"}


def argocd(body: Json) -> tuple[str, str]:
    """Health and message by the script."""
    return _script()(dict(body))


def flux(body: Json) -> str:
    """As kustomize-controller does it: the first expression that holds, else in progress."""
    return next((meaning for program, meaning in _expressions() if program.execute(dict(body)) is True), "InProgress")


def disagreements(body: Json) -> Iterator[str]:
    """Where one of them says other than kstatus's rules."""
    told, (health, message), expression = kstatus(body), argocd(body), flux(body)
    if _ARGO.get(health) != told:
        yield f"Argo CD says {health} where kstatus says {told}"
    if not message:
        yield "Argo CD has nothing to show"
    if expression != told:
        yield f"Flux's expressions say {expression} where kstatus says {told}"


@cache
def _script() -> Callable[[dict[str, Any]], tuple[str, str]]:
    settings = yaml.safe_load((DEPLOY / "argocd" / "argocd-cm.yaml").read_text(encoding="utf-8"))
    ((key, script),) = settings["data"].items()
    assert key == f"resource.customizations.health.{GROUP}_{KIND}"
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    lua.execute("os, io, package, debug, require, dofile, loadfile, load = nil")  # Argo CD's has none of these
    health = lua.eval(f"function(obj)\n{script}\nend")

    def run(body: dict[str, Any]) -> tuple[str, str]:
        found = health(lua.table_from(body, recursive=True))
        return found["status"], found["message"]

    return run


@cache
def _expressions() -> list[tuple[Any, str]]:
    kustomization = yaml.safe_load((DEPLOY / "flux" / "builds.yaml").read_text(encoding="utf-8"))
    (checks,) = kustomization["spec"]["healthCheckExprs"]
    assert (checks.pop("apiVersion"), checks.pop("kind")) == (API_VERSION, KIND)
    order = {"inProgress": "InProgress", "failed": "Failed", "current": "Current"}
    assert set(checks) == set(order)
    return [(cel.compile(checks[name]), meaning) for name, meaning in order.items()]
