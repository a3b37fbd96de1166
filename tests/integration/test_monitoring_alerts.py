"""The alerts, by Prometheus's own evaluation: they fire when they should, and when all is well they don't."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.places import ClusterError
from installing import programs

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "components" / "monitoring" / "prometheusrule.yaml"
REQUESTS = 'imagewright_api_requests_total{pod="a",verb="GET",resource="pods",code="%d"}'
WELL = {
    REQUESTS % 200: "0+60x120",
    'imagewright_api_requests_total{pod="a",verb="GET",resource="nodes",code="403"}': "0+1x120",
    'imagewright_api_requests_total{pod="a",verb="PATCH",resource="imagebuilds/status",code="409"}': "0+1x120",
    'imagewright_reconcile_errors_total{pod="a",kind="ApiError409"}': "0+1x120",
    'imagewright_builds_total{pod="a",outcome="Succeeded",reason=""}': "0+2x120",
    'imagewright_builds_total{pod="b",outcome="Failed",reason="StepFailed"}': "0+1x120",
    'imagewright_builds_running{pod="a"}': "3x120",
    'imagewright_builds_running{pod="b"}': "3x120",
    'imagewright_builds_waiting{pod="a"}': "500x120",
    'imagewright_builds_waiting{pod="b"}': "500x120",
    'imagewright_queue_depth{pod="a"}': "5x120",
    'imagewright_queue_depth{pod="b"}': "0x120",
}
# What is other than well, and what fires of it after 100 minutes.
CASES: dict[str, tuple[dict[str, str] | None, set[str]]] = {
    "all is well": ({}, set()),
    "nobody is there": (None, {"ImagewrightOperatorDown"}),
    "it no longer reads": ({REQUESTS % 200: "60x120"}, {"ImagewrightNotReconciling"}),
    "it may not read": ({REQUESTS % 200: "_x120", REQUESTS % 403: "0+60x120"}, {"ImagewrightNotReconciling"}),
    "the API server is overloaded": ({REQUESTS % 429: "0+9x120"}, {"ImagewrightApiErrors"}),
    "the API server fails now so, now so": (
        {REQUESTS % 429: "0+2x120", REQUESTS % 503: "0+2x120", REQUESTS % 0: "0+2x120"},
        {"ImagewrightApiErrors"},
    ),
    "it reads every ten minutes": (
        {REQUESTS % 200: "0x10 2x10 4x10 6x10 8x10 10x10 12x10 14x10 16x10 18x10 20x10"},
        set(),
    ),
    "a few requests fail": ({REQUESTS % 500: "0+1x120"}, set()),
    "a bug": ({'imagewright_reconcile_errors_total{pod="b",kind="Defect"}': "0+1x120"}, {"ImagewrightDefect"}),
    "nothing runs though builds wait": (
        {'imagewright_builds_running{pod="a"}': "0x120", 'imagewright_builds_running{pod="b"}': "0x120"},
        {"ImagewrightQueueStuck"},
    ),
    "nothing runs and nothing waits": (
        {f'imagewright_builds_{kind}{{pod="{pod}"}}': "0x120" for kind in ("running", "waiting") for pod in "ab"},
        set(),
    ),
    "the workers are behind": ({'imagewright_queue_depth{pod="b"}': "101x120"}, {"ImagewrightWorkersBehind"}),
    "most builds fail by themselves": (
        {'imagewright_builds_total{pod="b",outcome="Failed",reason="StepFailed"}': "0+3x120"},
        {"ImagewrightBuildsFailing"},
    ),
    "one of one build fails": (
        {
            'imagewright_builds_total{pod="a",outcome="Succeeded",reason=""}': "0x120",
            'imagewright_builds_total{pod="b",outcome="Failed",reason="StepFailed"}': "0x90 1x30",
        },
        set(),
    ),
    "the cluster refuses Pods": (
        {'imagewright_builds_total{pod="b",outcome="Failed",reason="PodRejected"}': "0+0.1x120"},
        {"ImagewrightInfrastructureFailing"},
    ),
}


@pytest.fixture(scope="session")
def promtool() -> Path:
    try:
        return programs.promtool()
    except ClusterError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def run(promtool: Path, *arguments: str, folder: Path) -> None:
    command = [str(promtool), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def rules(tmp_path: Path) -> list[dict[str, Any]]:
    """The alerts; as a file of Prometheus's, in the test's folder."""
    spec = yaml.safe_load(RULES.read_text(encoding="utf-8"))["spec"]
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(spec))
    alerts: list[dict[str, Any]] = spec["groups"][0]["rules"]
    return alerts


def test_prometheus_takes_them(promtool: Path, rules: list[dict[str, Any]], tmp_path: Path) -> None:
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml", folder=tmp_path)
    assert {rule["alert"] for rule in rules} == set.union(*(fires for _, fires in CASES.values()))


def test_each_fires_for_what_it_is_about_and_for_nothing_else(
    promtool: Path, rules: list[dict[str, Any]], tmp_path: Path
) -> None:
    tests = []
    for name, (changes, fires) in CASES.items():
        series = {} if changes is None else {**WELL, **changes}
        tests.append(
            {
                "name": name,
                "interval": "1m",
                "input_series": [{"series": key, "values": values} for key, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": "100m",
                        "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(fires)],
                    }
                ],
            }
        )
    body = {"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(body))
    run(promtool, "test", "rules", "tests.yaml", folder=tmp_path)
