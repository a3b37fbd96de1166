"""What an installation consists of, as kustomize or Helm renders it. No I/O."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import yaml

Json = dict[str, Any]
Name = tuple[str, str, str]


def objects(text: str) -> dict[Name, Json]:
    """The documents of a manifest by kind, namespace and name. No two may be the same object."""
    found: dict[Name, Json] = {}
    for document in yaml.load_all(text, yaml.CSafeLoader):
        if document is not None:
            assert name(document) not in found, f"{name(document)} is there twice"
            found[name(document)] = document
    return found


def name(document: Json) -> Name:
    return document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"]


def one(found: Mapping[Name, Json], kind: str, called: str = "imagewright-operator") -> Json:
    """The only object of a kind and name."""
    (document,) = (item for (its, _, its_name), item in found.items() if (its, its_name) == (kind, called))
    return document


def kinds(found: Iterable[Name]) -> set[str]:
    return {kind for kind, _, _ in found}


def rights(role: Json) -> set[tuple[str, str, str]]:
    """A role's rules, one right at a time: group, resource, verb."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def environment(found: Mapping[Name, Json]) -> dict[str, str]:
    """The settings that the operator's container gets."""
    (deployment,) = (item for (kind, _, _), item in found.items() if kind == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (source,) = container["envFrom"]
    data: dict[str, str] = one(found, "ConfigMap", source["configMapRef"]["name"])["data"]
    return data


def selects(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a label selector that only has ``matchLabels`` takes an object with these labels."""
    assert set(selector) == {"matchLabels"}
    return all(labels.get(key) == value for key, value in selector["matchLabels"].items())


def manifest(documents: Iterable[Json]) -> str:
    """What ``kubectl apply --filename=-`` reads."""
    return "\n---\n".join(map(json.dumps, documents))


def renamed(found: Mapping[Name, Json], change: Callable[[str], str]) -> Iterator[Json]:
    """The same objects with every string, keys aside, as ``change`` says."""
    for document in found.values():
        yield _changed(document, change)


def _changed(node: Any, change: Callable[[str], str]) -> Any:
    if isinstance(node, str):
        return change(node)
    if isinstance(node, list):
        return [_changed(item, change) for item in node]
    if isinstance(node, dict):
        return {key: _changed(value, change) for key, value in node.items()}
    return node


def lets_out(policy: Json, address: str, port: int, protocol: str = "TCP") -> bool:
    """Whether a NetworkPolicy's spec allows a connection from its Pods to an address outside of the cluster."""
    target = ipaddress.ip_address(address)

    def holds(network: str) -> bool:
        return target in ipaddress.ip_network(network)

    def takes(rule: Json) -> bool:
        ports = [(one["protocol"], one["port"]) for one in rule.get("ports", ())]
        blocks = [peer["ipBlock"] for peer in rule.get("to", ()) if "ipBlock" in peer]
        there = "to" not in rule or any(
            holds(block["cidr"]) and not any(map(holds, block.get("except", ()))) for block in blocks
        )
        return there and (not ports or (protocol, port) in ports)

    return "Egress" not in policy["policyTypes"] or any(map(takes, policy.get("egress", ())))
