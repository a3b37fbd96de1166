"""A build asks the registry soon: until then it imports nothing that only other builds need (docs/performance.md)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Ends the program in place of its first connection, and tells what was imported until then.
PROGRAM = """
import json, os, sys

def stop(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        os.write(1, json.dumps(sorted(sys.modules)).encode())
        os._exit(0)

sys.addaudithook(stop)
from imagewright.__main__ import main
main()
"""
DOCKERFILE = "FROM 127.0.0.1:1/base\nARG A=1\nCOPY a /a\nRUN make\nENV A=$A\n"
# Packages and modules with everything below them.
NOT_IMPORTED = (
    *("pydantic", "pydantic_core", "annotated_types", "rich", "dockerfile_parse", "yaml", "typing_extensions"),
    *("boto3", "botocore", "google", "azure", "kubernetes", "kopf", "aiohttp", "imagewright_operator"),
    *("asyncio", "multiprocessing", "unittest", "xml", "sqlite3", "zoneinfo"),
    *("imagewright.pin", "imagewright.cli.help", "imagewright.cli.docs", "imagewright.lint.ruledocs"),
    *("imagewright.progress.live", "imagewright.progress.timings"),
)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    context = tmp_path_factory.mktemp("context")
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "a").touch()
    return modules_before_first_request("build", "--no-push", f"--work-dir={context}/work", str(context))


def modules_before_first_request(*words: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    program = [sys.executable, "-c", PROGRAM, *words]
    ended = subprocess.run(program, env=environment, capture_output=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr.decode()
    modules: list[str] = json.loads(ended.stdout)
    return modules


@pytest.mark.parametrize("name", NOT_IMPORTED)
def test_not_imported_before_the_first_request(imported: list[str], name: str) -> None:
    assert [module for module in imported if module == name or module.startswith(f"{name}.")] == []


def test_a_build_is_what_was_started(imported: list[str]) -> None:
    assert {"imagewright.engine.build", "imagewright.plan.resolve", "requests"} <= set(imported)


# Tells what is imported once the stages begin. A RUN may have replaced / by then, and Python's own files with it.
LATE = """
import atexit, sys
from imagewright.__main__ import main
from imagewright.engine import build
execute, before = build._Build._execute_stages, []
def executed(*words):
    before.append(set(sys.modules))
    execute(*words)
build._Build._execute_stages = executed
atexit.register(lambda: print(sorted(set(sys.modules) - before[0])))
main()
"""


def test_nothing_is_imported_once_the_stages_begin(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY a /a\nWORKDIR /b\n")
    (tmp_path / "a").touch()
    outputs = [f"--tar-path={tmp_path}/image.tar", f"--oci-layout-path={tmp_path}/layout", "--destination=r.example/a"]
    words = ["build", "--no-push", f"--work-dir={tmp_path}/work", *outputs, str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", LATE, *words], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
