"""``imagewright execute`` and ``probe``: what the engine's container of the operator's Pods runs.

Reads the request from the environment; writes the result to standard output and to the termination message.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace

from imagewright import contract
from imagewright.cli.command import Command, Prepare
from imagewright.cli.commands.build import run_build
from imagewright.cli.interrupts import ignore, repeated_to_first_process
from imagewright.cli.request import check_environment, environment_request
from imagewright.contract.request import BuildRequest
from imagewright.contract.result import BuildResult, Failure
from imagewright.engine.events import Reporter
from imagewright.engine.source.contexts import find_source_commit
from imagewright.errors import ImagewrightError, exit_code, internal_error
from imagewright.progress.display import Level
from imagewright.progress.plain import PlainReporter
from imagewright.remedies import for_imagebuild
from imagewright.sandbox.rootless import enter_user_namespace_if_needed
from imagewright.sandbox.runner.container import dismiss as dismiss_runner


class _PodReporter(PlainReporter):
    """Plain lines, for the owner of an ImageBuild."""

    def warning(self, text: str) -> None:
        super().warning(for_imagebuild(text))


def execute(environment: Mapping[str, str], prepare: Prepare) -> int:
    """Build, and report to the operator."""
    runner_socket = contract.RUNNER_SOCKET  # also where the request cannot be read

    def run(request: BuildRequest, display: Reporter) -> tuple[BuildResult, ImagewrightError | None]:
        nonlocal runner_socket
        runner_socket = request.run.runner_socket
        check_environment(request, environment)
        refusal = enter_user_namespace_if_needed()
        return run_build(request, environment, display, refusal)

    try:
        return _report(run, environment, prepare)
    finally:
        dismiss_runner(runner_socket)


def probe(environment: Mapping[str, str], prepare: Prepare) -> int:
    """Resolve the source's commit, and report it to the operator."""
    with repeated_to_first_process():
        return _report(
            lambda request, display: (find_source_commit(request, environment, display), None), environment, prepare
        )


def _report(
    run: Callable[[BuildRequest, Reporter], tuple[BuildResult, ImagewrightError | None]],
    environment: Mapping[str, str],
    prepare: Prepare,
) -> int:
    display = _PodReporter(sys.stdout, Level.INFO)
    error: ImagewrightError | None
    try:
        prepare()
        result, error = run(environment_request(environment, contract.REQUEST_ENV), display)
    except ImagewrightError as failure:
        error = failure
        result = _without_build(error)
    except Exception as failure:  # noqa: BLE001 -- the operator must hear of it
        traceback.print_exc()
        error = internal_error(failure)
        result = _without_build(error)
    ignore()  # the image is pushed: even a Pod that is deleted now must report its digest
    if error is not None:
        error.hint = for_imagebuild(error.hint)
        display.failed(error)
    if result.failure is not None:
        told = replace(result.failure, hint=for_imagebuild(result.failure.hint))
        result = replace(result, failure=told)
    whole = json.dumps({contract.RESULT_LOG_KEY: json.loads(result.to_json())}, separators=(",", ":"))
    print(whole, flush=True)
    _write_termination_message(result.termination_message())
    return exit_code(error.reason) if error is not None else 0


def _without_build(error: ImagewrightError) -> BuildResult:
    return BuildResult(failure=Failure(reason=error.reason.value, message=error.message, hint=error.hint))


def _write_termination_message(text: str) -> None:
    try:
        # The kubelet creates it. Elsewhere there is none, and none is created: /dev is the machine's.
        fd = os.open(contract.TERMINATION_MESSAGE_PATH, os.O_WRONLY | os.O_TRUNC)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        print(f"warning: cannot write {contract.TERMINATION_MESSAGE_PATH}: {error.strerror}", file=sys.stderr)


COMMANDS = {
    "execute": Command("imagewright execute", (), lambda _, environment, prepare: execute(environment, prepare)),
    "probe": Command("imagewright probe", (), lambda _, environment, prepare: probe(environment, prepare)),
}
