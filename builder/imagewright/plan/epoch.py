"""SOURCE_DATE_EPOCH as the name of a stage (Dockerfile 1.24): finds its remote source, whose time is used.

No I/O. The time is a build argument of the plan, so it is resolved before planning. Such a stage consists of FROM
scratch, ARGs and one ADD of a remote source.
"""

from __future__ import annotations

from imagewright.dockerfile.expand import Expansion, ExpansionError, ExpansionOptions, expand
from imagewright.dockerfile.model import Add, Arg, Dockerfile, Located, Stage
from imagewright.dockerfile.source import SourceText
from imagewright.dockerfile.substitutions import Substitutions
from imagewright.plan.arguments import EPOCH, global_arguments
from imagewright.plan.options import PlanOptions
from imagewright.plan.remote import RemoteError, RemoteSource, parse_remote, with_checksum
from imagewright.records import dataclass

_HINT = f"Limit the stage that {EPOCH} names to FROM scratch, ARGs and one ADD of a URL or a git repository."


@dataclass(frozen=True, slots=True)
class EpochSource:
    """The source that the stage adds, and the substitutions made in it."""

    remote: RemoteSource
    substitutions: Substitutions


def epoch_source(dockerfile: Dockerfile, options: PlanOptions, name: str) -> EpochSource | None:
    """The source that the stage ``name`` adds, None if there is no such stage.

    Raises:
        DockerfileError: the stage has other instructions, or its source is invalid.
    """
    stage = next((stage for stage in dockerfile.stages if stage.name and stage.name == name.lower()), None)
    return None if stage is None else _Reader(dockerfile, options).source_of(stage)


class _Reader:
    def __init__(self, dockerfile: Dockerfile, options: PlanOptions) -> None:
        self._source = SourceText(dockerfile.name, dockerfile.lines)
        self._options = options.with_build_arg(EPOCH, None)  # it must not refer to itself
        self._expansion = ExpansionOptions(escape=dockerfile.directives.escape)
        self._values = global_arguments(dockerfile, self._options, self._source, self._expansion)
        self._values.pop(EPOCH, None)

    def source_of(self, stage: Stage) -> EpochSource:
        if self._expand(stage.from_, stage.from_.image).text != "scratch":
            raise self._source.error(
                f'invalid {EPOCH} value "{stage.name}": the stage is not FROM scratch',
                stage.from_.location,
                word=stage.from_.image,
                hint=_HINT,
            )
        found: list[EpochSource] = []
        for instruction in stage.instructions:
            match instruction:
                case Arg():
                    self._declare(instruction)
                case Add() if not found:
                    found.append(self._remote(stage, instruction))
                case _:
                    raise self._source.error(
                        f'invalid {EPOCH} value "{stage.name}": the stage has more than ARGs and one ADD',
                        instruction.location,
                        hint=_HINT,
                    )
        if not found:
            message = f'invalid {EPOCH} value "{stage.name}": the stage has no ADD'
            raise self._source.error(message, stage.from_.location, hint=_HINT)
        return found[0]

    def _declare(self, arg: Arg) -> None:
        for item in arg.items:
            if item.name in self._options.build_args:
                self._values[item.name] = self._options.build_args[item.name]
            elif item.value is not None:
                self._values[item.name] = self._expand(arg, item.value).text

    def _remote(self, stage: Stage, add: Add) -> EpochSource:
        written = add.sources[0] if len(add.sources) == 1 and not add.heredocs else ""
        address, checksum = self._expand(add, written), self._expand(add, add.checksum)
        substitutions = address.substitutions | checksum.substitutions
        try:
            remote = parse_remote(address.text) if written else None
            if remote is not None and checksum.text:
                remote = with_checksum(remote, checksum.text)
        except RemoteError as error:
            raise self._source.error(
                substitutions.as_written(error.message), add.location, word=written, hint=error.hint
            ) from None
        if remote is None:
            what = f'invalid {EPOCH} value "{stage.name}": its ADD is not of one URL or git repository'
            raise self._source.error(what, add.location, word=written, hint=_HINT)
        return EpochSource(remote, substitutions)

    def _expand(self, instruction: Located, text: str) -> Expansion:
        try:
            return expand(text, self._values, self._expansion)
        except ExpansionError as error:
            raise self._source.cannot_expand(text[:100], error, instruction.location, word=text) from error
