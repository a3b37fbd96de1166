"""Enforces the egress rules of NetworkPolicies: the cluster's own network plugin, ``ptp``, enforces none.

Reads the policies that the API server has, and writes nftables rules into the node's network namespace. Knows what the
policies of ``deploy`` consist of, and refuses anything else: a rule is never left out. (Enforcers that are Go modules,
such as ``sigs.k8s.io/kube-network-policies``, queue packets to user space, for which kernels of small virtual machines
lack ``nft_queue``.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.client import Cluster
from cluster.network import run
from cluster.places import ClusterError

Json = Mapping[str, Any]


def enforce(cluster: Cluster, pod: Json) -> int:
    """Enforce, for a running Pod, the egress rules of the policies that select it; how many policies do."""
    metadata, address = pod["metadata"], pod["status"]["podIP"]
    policies = [
        policy["spec"]
        for policy in cluster.json("get", "networkpolicies", "-n", metadata["namespace"])["items"]
        if "Egress" in policy["spec"]["policyTypes"] and _selects(policy["spec"]["podSelector"], metadata["labels"])
    ]
    if not policies:
        return 0
    allowed = [line for spec in policies for rule in spec.get("egress", ()) for line in _accepting(rule, cluster)]
    lines = [f"ip saddr != {address} accept", "ct state established,related accept", *allowed, "drop"]
    chain = "type filter hook prerouting priority mangle; policy accept;"
    table = f"table ip pod-{metadata['uid']} {{ chain egress {{ {chain} {'; '.join(lines)}; }}; }}\n"
    inside = ("nsenter", f"--net=/proc/{cluster.processes.supervisor_pid()}/ns/net")
    run(*inside, "nft", "-f", "-", text=table)
    return len(policies)


def _selects(selector: Json, labels: Mapping[str, str]) -> bool:
    _only(selector, "matchLabels")
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def _accepting(rule: Json, cluster: Cluster) -> Iterator[str]:
    """The nftables rules that accept what one rule of a policy allows, for IPv4, which is all that Pods have here."""
    _only(rule, "ports", "to")
    for peer in [_address(peer, cluster) for peer in rule["to"]] if "to" in rule else [""]:
        for port in [_port(port) for port in rule["ports"]] if "ports" in rule else [""]:
            if peer is not None:
                yield f"{peer} {port} accept"


def _port(port: Json) -> str:
    _only(port, "port", "protocol")
    return f"{port['protocol'].lower()} dport {port['port']}"


def _address(peer: Json, cluster: Cluster) -> str | None:
    """None for a range of IPv6."""
    if peer == {"namespaceSelector": {}}:
        return f"ip daddr {cluster.places.pod_cidr}"
    _only(peer, "ipBlock")
    block = peer["ipBlock"]
    _only(block, "cidr", "except")
    if ipaddress.ip_network(block["cidr"]).version == 6:
        return None
    excepted = f"ip daddr != {{ {', '.join(block['except'])} }}" if block.get("except") else ""
    return f"ip daddr {block['cidr']} {excepted}"


def _only(given: Json, *known: str) -> None:
    if unknown := set(given) - set(known):
        raise ClusterError(f"cannot enforce {', '.join(sorted(unknown))} of a NetworkPolicy")
