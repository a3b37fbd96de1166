"""kaniko's Pod on a hardened cluster, with all that is mounted in real ones, and an image that has something else
there.
"""

from __future__ import annotations

from typing import Any

import pytest
from cluster.client import Cluster
from cluster.places import ClusterError
from imagebuilds.installation import image

pytestmark = [pytest.mark.root, pytest.mark.cluster]

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


def run_kaniko(cluster: Cluster, namespace: str, dockerfile: str, name: str = "kaniko") -> str:
    """The log of a build of debian, among a token, an emptyDir, a ConfigMap's file and a CA in the place of the
    image's.
    """
    host = cluster.registry.host
    words = ("create", "configmap", name)
    values = {"Dockerfile": dockerfile, "x.conf": "the cluster's\n", "ca.crt": "the cluster's\n"}
    cluster.kubectl("-n", namespace, *words, *(f"--from-literal={key}={value}" for key, value in values.items()))
    mounts: list[dict[str, Any]] = [
        {"name": "context", "mountPath": "/workspace"},
        {"name": "empty", "mountPath": "/cache/deep"},
        {"name": "context", "mountPath": "/etc/app/x.conf", "subPath": "x.conf"},
        {"name": "context", "mountPath": "/etc/ssl/certs/ca-certificates.crt", "subPath": "ca.crt"},
    ]
    container = {
        "name": "kaniko",
        "image": image(cluster, "executor"),
        "args": ["--context=dir:///workspace", f"--destination={host}/mounts/{namespace}:1"],
        "env": [
            {"name": "KANIKO_REGISTRY_MIRROR", "value": host},
            {"name": "IMAGEWRIGHT_INSECURE_REGISTRY", "value": host},
        ],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "volumeMounts": mounts,
    }
    volumes = [{"name": "context", "configMap": {"name": name}}, {"name": "empty", "emptyDir": {}}]
    return cluster.run_pod(name, "", namespace=namespace, container=container, volumes=volumes)


def test_mounts_do_not_change_a_debian_image(cluster: Cluster, namespace: str) -> None:
    log = run_kaniko(
        cluster,
        namespace,
        f"FROM debian\nRUN mkdir /var/run/sshd && cat {TOKEN}/namespace && echo && echo x >/cache/deep/lost && echo x >/cache/kept\n"
        "COPY x.conf /etc/app/x.conf\nRUN cat /etc/app/x.conf\n"
        "FROM debian\nCOPY --from=0 /etc/app /etc/app\nCOPY --from=0 /run /run\nCOPY --from=0 /cache /cache\n"
        "COPY x.conf /workspace/x.conf\n",
    )
    assert "sandbox root: " in log
    assert f"  | {namespace}\n" in log
    assert 'warning: RUN changed "/cache/deep/lost"' in log
    look = "readlink /var/run; ls -d /var/run/sshd; cat /etc/app/x.conf; ls /cache; ls /cache/deep; ls /workspace"
    seen = cluster.run_pod(
        "look",
        f"{cluster.registry.host}/mounts/{namespace}:1",
        ("sh", "-c", f"{look} 2>&1; true"),
        namespace=namespace,
        automountServiceAccountToken=False,
    )
    assert seen.splitlines() == [
        *("/run", "/var/run/sshd", "the cluster's", "kept"),
        "ls: cannot access '/cache/deep': No such file or directory",
        "x.conf",
    ]


@pytest.mark.parametrize(
    ("dockerfile", "says"),
    [
        (
            "FROM debian\nRUN echo mine >/tmp/x && mv /tmp/x /etc/ssl/certs/ca-certificates.crt\n",
            '"/etc/ssl/certs/ca-certificates.crt", mounted',
        ),
        (
            "FROM debian\nWORKDIR /workspace\nCOPY x.conf .\nRUN cat x.conf\n",
            'its working directory "/workspace"',
        ),
    ],
    ids=["replaces a mounted file", "would see the context"],
)
def test_a_command_in_conflict_with_a_mount_is_refused_and_names_it(
    cluster: Cluster, namespace: str, dockerfile: str, says: str
) -> None:
    with pytest.raises(ClusterError) as failed:
        run_kaniko(cluster, namespace, dockerfile)
    assert says in str(failed.value)
