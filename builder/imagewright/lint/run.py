"""Lints a Dockerfile: collects the warnings of all checks and of the planner, and filters them by the options.

No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.dockerfile.model import Dockerfile, DockerfileWarning
from imagewright.dockerfile.source import SourceText, excerpt, nearest
from imagewright.errors import DockerfileError, Location, Reason, UsageError
from imagewright.lint.checks import check
from imagewright.lint.options import BUILD_ARG, LintOptions
from imagewright.lint.rules import BY_NAME
from imagewright.plan.model import BuildPlan
from imagewright.plan.options import PlanOptions
from imagewright.plan.origins import ContextOrigin
from imagewright.plan.steps import CopyStep


def lint_options(dockerfile: Dockerfile, options: PlanOptions) -> LintOptions:
    """The options of the build argument, else of the directive.

    Raises:
        UsageError: an invalid build argument.
        DockerfileError: an invalid directive.
    """
    if given := options.build_args.get(BUILD_ARG, ""):
        return LintOptions.parse(given, f"--build-arg {BUILD_ARG}")
    try:
        return LintOptions.parse(dockerfile.directives.check, "# check")
    except UsageError as error:
        source = SourceText(dockerfile.name, dockerfile.lines)
        word = dockerfile.directives.check
        raise source.error(error.message, _directive_place(dockerfile), word=word, hint=error.hint) from error


def _directive_place(dockerfile: Dockerfile) -> Location:
    """The line of ``# check=``, or the first line if the options are from a build argument."""
    lines = (n for n, text in enumerate(dockerfile.lines, 1) if dockerfile.directives.check and "check" in text.lower())
    line = next(lines, 1)
    return Location(dockerfile.name, line, line)


def _unknown_rules(dockerfile: Dockerfile, options: LintOptions) -> Iterator[DockerfileWarning]:
    source = SourceText(dockerfile.name, dockerfile.lines)
    for name in options.unknown:
        near = nearest(name, BY_NAME)
        message = f"Unknown rule {name}{f' (did you mean {near}?)' if near else ''}"
        yield DockerfileWarning("UnknownRule", message, source.narrow(_directive_place(dockerfile), name))


def lint(
    dockerfile: Dockerfile, options: PlanOptions, applied: LintOptions, build_plan: BuildPlan, ignore: IgnorePatterns
) -> tuple[DockerfileWarning, ...]:
    """The warnings of a build, in the order of the file, each with an excerpt.

    Args:
        applied: the result of ``lint_options``.
        build_plan: has the warnings of the planner.
        ignore: the .dockerignore of the build context.
    """
    found = [*check(dockerfile, options), *build_plan.warnings, *_ignored_files(dockerfile, build_plan, ignore)]
    shown = applied.select([*found, *_unknown_rules(dockerfile, applied)])
    return tuple(replace(warning, excerpt=excerpt(dockerfile.lines, warning.location)) for warning in shown)


def refuse_warnings(options: LintOptions, warnings: tuple[DockerfileWarning, ...]) -> None:
    """With ``error=true`` a warning fails the build.

    Raises:
        DockerfileError: reason ``LintFailed``.
    """
    if warnings and options.error:
        rules = ", ".join(sorted({warning.rule for warning in warnings}))
        raise DockerfileError(
            f"lint found {len(warnings)} warning{'s' if len(warnings) > 1 else ''} and error=true is set: {rules}",
            reason=Reason.LINT_FAILED,
            location=warnings[0].location,
            excerpt=warnings[0].excerpt,
            hint="Fix the warnings, or add # check=skip=RULE at the top of the file.",
        )


def _ignored_files(
    dockerfile: Dockerfile, build_plan: BuildPlan, ignore: IgnorePatterns
) -> Iterator[DockerfileWarning]:
    """COPY and ADD of files that .dockerignore excludes. With exceptions (``!``) there is no check, as in BuildKit."""
    if not ignore.patterns or any(pattern.exception for pattern in ignore.patterns):
        return
    source = SourceText(dockerfile.name, dockerfile.lines)
    for stage in build_plan.stages:
        for step in stage.steps:
            if not isinstance(step, CopyStep) or step.origin != ContextOrigin() or step.onbuild:
                continue
            command = "Add" if step.created_by.startswith("ADD") else "Copy"
            for path in step.sources:
                if isinstance(path, str) and ignore.ignores(path):
                    written = step.text.substitutions.as_written(path)
                    message = f'Attempting to {command} file "{written}" that is excluded by .dockerignore'
                    yield DockerfileWarning("CopyIgnoredFile", message, source.narrow(step.location, written))
