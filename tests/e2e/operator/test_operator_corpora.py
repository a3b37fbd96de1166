"""The corpora of hostile images in real Pods: one Pod for each sandbox, and one of an ordinary user, all at once.

Each image of ``tests/hostile/network-files.json`` is a stage, whose RUN writes through all its names. In a root that
all stages share, each finds what the ones before it have left. One more stage sends the signals of
``tests/hostile/run-signals.json``.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from containers.container import REPOSITORY, archive
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator

pytestmark = [pytest.mark.root, pytest.mark.cluster]

IMAGES = json.loads((REPOSITORY / "tests/hostile/network-files.json").read_text().replace("%LONG%", "x" * 300))
SIGNALS = json.loads((REPOSITORY / "tests/hostile/run-signals.json").read_text())
# Each attacks what the container has, but for the runner's own programs: a changed one ends the build as it should.
STAGE = """\
FROM busybox AS stage-{0}
ADD image-{0}.tar.gz /
RUN for each in resolv.conf hosts hostname; do \\
      case "$(readlink -f /etc/$each)" in /imagewright/*) ;; *) echo attack >/etc/$each; esac; \\
    done 2>/dev/null; echo stopped >/dev/termination-log; kill -TERM -1; kill -STOP 1; \\
    test -c /dev/null && test ! -s /dev/null && echo done >/done-{0}
"""
COLLECTED = "COPY --from=stage-{0} /done-{0} /\n"
RUNTIME_DEFAULT = {"seccompProfile": {"type": "RuntimeDefault"}}
# What is asked for, which sandbox is taken, and the containers' security context.
BUILDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "namespace": ("Namespace", "namespace", {}),
    "idle": ("Auto", "namespace", {}),  # the Pod has a runner, which does nothing
    "root": ("Auto", "root", RUNTIME_DEFAULT),
    "chroot": ("Chroot", "chroot", {}),
    "user": ("Namespace", "namespace", {"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": True}),
}


def test_hostile_images_are_built_in_every_sandbox(builds: Namespace, operators: Callable[..., Operator]) -> None:
    operator = operators(POD_PROFILE="plain")  # in a user namespace the chroot sandbox has no devices
    numbers = range(len(IMAGES))
    dockerfile = "".join(STAGE.format(number) for number in numbers)
    dockerfile += "FROM busybox AS stage-signals\n"
    dockerfile += "".join(f"RUN <<'EOF'\n{attack['script']}\nexit 0\nEOF\n" for attack in SIGNALS)
    dockerfile += "RUN echo done >/done-signals\n"
    dockerfile += "FROM busybox\n" + "".join(COLLECTED.format(name) for name in (*numbers, "signals"))
    tars = {f"image-{number}.tar.gz": gzip.compress(archive(IMAGES[number]["image"])) for number in numbers}
    content: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "images"}}
    content["binaryData"] = {name: base64.b64encode(data).decode() for name, data in tars.items()}
    builds.kubectl("create", "--filename=-", given={**content, "data": {"Dockerfile": dockerfile}})
    for name, (asked, _, context) in BUILDS.items():
        template = {"securityContext": context} if context else {}
        builds.apply(name, source={"configMap": {"name": "images"}}, sandbox=asked, podTemplate=template)
    for name, (_, taken, _) in BUILDS.items():
        status = builds.phase("Succeeded", name)
        assert status["build"]["sandbox"] == taken
        assert status["build"]["attempt"] == 1
    assert operator.is_running()
