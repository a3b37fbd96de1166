"""Whose disk space ran out when the kubelet evicted an executor Pod for it. No I/O.

The kubelet's own words tell (``eviction/helpers.go``): a volume's limit, a container's, or that of all together. Where
the node itself ran short of space, the Pod is merely evicted: another one may have filled the disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imagewright_operator.api.volumerules import RESERVED_VOLUME_PREFIX
from imagewright_operator.pods.states import EXECUTOR, RUNNER, container_of, resources_field

_VOLUME = re.compile(r'Usage of EmptyDir volume "([^"]*)"')
_CONTAINER = re.compile(r"Container (\S+) exceeded its local ephemeral storage limit")
_POD = re.compile(r"exceed(?:s|ed) the total limit of containers")
_LIMIT = "limits.ephemeral-storage"


def disk_full(pod: Mapping[str, Any], words: str) -> str:
    """The message if ``words``, the reason for which a Pod was evicted, name a limit of its own; "" if they don't."""
    container, volume = _CONTAINER.search(words), _VOLUME.search(words)
    if container is not None and container[1] not in (EXECUTOR, RUNNER):
        return f"{words.rstrip('. ')}: raise the limit of container {container[1]} where it is added to the Pod"
    if container is not None:
        remedy = f"raise {resources_field(pod, container[1], _LIMIT)}"
    elif volume is not None and volume[1].startswith(RESERVED_VOLUME_PREFIX):
        remedy = "raise the operator's setting IMAGEWRIGHT_WORKSPACE_SIZE"
    elif volume is not None:
        remedy = f'raise emptyDir.sizeLimit of volume "{volume[1]}" in spec.podTemplate.volumes'
    elif _POD.search(words):
        has_runner = container_of((pod.get("spec") or {}).get("containers"), RUNNER)
        remedy = f"raise {resources_field(pod, RUNNER if has_runner else EXECUTOR, _LIMIT)}"
    else:
        return ""
    return f"{words.rstrip('. ')}: the build needs more disk space than its Pod may use; {remedy}"
