"""Alerts and dashboard use what the operator exports: names, labels and values; every expression is PromQL."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import promql_parser
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from imagewright.errors import Reason
from imagewright_operator.api.status import Build, FailureStatus, Phase
from imagewright_operator.monitoring.metrics import Metrics

ROOT = Path(__file__).parents[2]
COMPONENT = ROOT / "deploy" / "components" / "monitoring"
OUTCOMES = set(get_args(Build.model_fields["outcome"].annotation)) - {""}
# What these labels' values may be; the rest are HTTP's and Python's.
VALUES: dict[str, set[str]] = {
    "outcome": OUTCOMES,
    "reason": {reason.value for reason in Reason},
    "phase": {phase.value for phase in Phase} | {"New"},
    "kind": {"Defect", *(f"ApiError{status}" for status in (0, 409, 429, 500))},
    "verb": {"GET", "POST", "PUT", "PATCH", "DELETE"},
    "resource": {"imagebuilds", "imagebuilds/status", "pods", "pods/log", "events", "nodes", "leases", "other"},
    "code": {"0", "200", "201", "401", "403", "404", "409", "410", "429", "500", "503"},
}


def exported() -> dict[str, set[str]]:
    """The labels of every sample that the operator can serve, by its name, read as Prometheus reads them."""
    metrics = Metrics()
    times = {
        "queue_time": "2026-11-25T12:00:00Z",
        "start_time": "2026-11-25T12:00:05Z",
        "completion_time": "2026-11-25T12:01:00Z",
    }
    failure = FailureStatus(reason="StepFailed")
    metrics.finished(Build(id="b", inputs_hash="h", outcome="Failed", failure=failure, **times))
    metrics.failed("Defect")
    metrics.request("GET", "pods", 200)
    metrics.watch(phases=lambda: {"Running": 1}, counts=lambda: (1, 0), depth=lambda: 0)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def rules() -> list[dict[str, Any]]:
    body = yaml.safe_load((COMPONENT / "prometheusrule.yaml").read_text(encoding="utf-8"))
    (group,) = body["spec"]["groups"]
    return list(group["rules"])


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((COMPONENT / "dashboard.json").read_text(encoding="utf-8"))
    return board


def queries() -> Iterator[tuple[str, str]]:
    """Where a query is, and its text with Grafana's variable filled in."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


QUERIES = list(queries())


def visit(query: str, look: Callable[[promql_parser.Expr], None]) -> None:
    def pre_visit(node: promql_parser.Expr) -> bool:
        look(node)
        return True

    promql_parser.walk(promql_parser.parse(query), pre_visit)


def selectors(query: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def look(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    visit(query, look)
    return found


def grouped(query: str) -> set[str]:
    """The labels that aggregations keep."""
    kept: set[str] = set()

    def look(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            kept.update(node.modifier.labels)

    visit(query, look)
    return kept


def problems(query: str, known: Mapping[str, set[str]]) -> list[str]:
    """What a query asks for that isn't there."""
    found = []
    labels: set[str] = set()
    for selector in selectors(query):
        if selector.name not in known:
            found.append(f"no metric {selector.name}")
            continue
        labels |= known[selector.name]
        for matcher in selector.matchers.matchers:
            if matcher.name not in known[selector.name]:
                found.append(f"{selector.name} has no label {matcher.name}")
            elif matcher.name in VALUES:
                for part in str(matcher.value).split("|"):
                    if not any(re.fullmatch(part, value) for value in VALUES[matcher.name]):
                        found.append(f"{matcher.name} is never {part}")
    found += [f"nothing here has a label {label}" for label in grouped(query) - labels]
    return found


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[f"{where}-{n}" for n, (where, _) in enumerate(QUERIES)])
def test_every_query_uses_exported_metrics(where: str, query: str) -> None:
    assert selectors(query), where
    assert problems(query, exported()) == []


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("sum(rate(imagewright_build_total[5m]))", "no metric imagewright_build_total"),
        ('imagewright_imagebuilds{state="x"}', "imagewright_imagebuilds has no label state"),
        ('rate(imagewright_builds_total{outcome="failed"}[5m])', "outcome is never failed"),
        ('imagewright_builds_total{reason=~"PushFailed|Pushed"}', "reason is never Pushed"),
        ("sum by (namespace) (imagewright_queue_depth)", "nothing here has a label namespace"),
    ],
)
def test_an_invalid_query_is_found(query: str, problem: str) -> None:
    assert problems(query, exported()) == [problem]


def test_the_dashboard_shows_every_metric() -> None:
    shown = {selector.name for where, query in QUERIES[len(rules()) :] for selector in selectors(query)}
    assert shown == set(exported())


def test_alert_messages_use_existing_labels() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
        used = {match for text in rule["annotations"].values() for match in re.findall(r"\$labels\.(\w+)", text)}
        assert used <= grouped(rule["expr"]), rule["alert"]


def test_legends_use_existing_labels_and_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "5m")
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= grouped(query)
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_prometheus_finds_the_operators_pods_through_the_service() -> None:
    service, monitor = (
        yaml.safe_load((COMPONENT / name).read_text(encoding="utf-8"))
        for name in ("service.yaml", "servicemonitor.yaml")
    )
    deployment = yaml.safe_load((ROOT / "deploy" / "base" / "deployment.yaml").read_text(encoding="utf-8"))
    template = deployment["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    (port,) = service["spec"]["ports"]
    (opened,) = template["spec"]["containers"][0]["ports"]
    assert endpoint["port"] == port["name"]
    assert port["targetPort"] == opened["name"]


def test_the_chart_has_the_same_alerts_and_dashboard() -> None:
    files = ROOT / "deploy" / "helm" / "imagewright" / "files"
    assert (files / "dashboard.json").read_bytes() == (COMPONENT / "dashboard.json").read_bytes()
    assert yaml.safe_load((files / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"] == rules()


def test_the_page_has_every_metric_with_its_labels_and_every_alert() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    told = {
        match[1]: set(re.findall(r"`(\w+)`", match[2] or ""))
        for match in re.finditer(r"^- `(imagewright_\w+)`(?: \(labels ([^)]*)\))?:", text, re.MULTILINE)
    }
    families: dict[str, set[str]] = {}
    for sample, labels in exported().items():
        families.setdefault(re.sub(r"_(bucket|sum|count)$", "", sample), set()).update(labels - {"le"})
    assert told == families
    assert re.findall(r"^- (Imagewright\w+):", text, re.MULTILINE) == [rule["alert"] for rule in rules()]
