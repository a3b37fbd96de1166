"""A Dockerfile's bytes to a ``Dockerfile``: lines to instructions, instructions to stages.

No I/O. Called by the engine, the CLI and, for ONBUILD triggers, by ``plan``.
"""

from __future__ import annotations

from imagewright.dockerfile.instructions import RawInstruction, read_instruction
from imagewright.dockerfile.lexer import SpanKind, lex
from imagewright.dockerfile.model import Arg, Dockerfile, From, Instruction, Stage
from imagewright.dockerfile.source import SourceText
from imagewright.errors import DockerfileError, Location

MAX_BYTES = 8 * 1024 * 1024  # the longest that people write are some hundred kilobytes


def parse(data: bytes, name: str) -> Dockerfile:
    """Parse a Dockerfile. ``name`` is what errors call the file.

    Raises:
        DockerfileError: with its place, the line, and what to write instead.
    """
    if len(data) > MAX_BYTES:
        raise DockerfileError(f"{name} has {len(data)} bytes; a Dockerfile may have {MAX_BYTES}")
    lexed = lex(data, name)
    source = lexed.source
    global_args: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for span in lexed.spans:
        if span.kind is not SpanKind.INSTRUCTION:
            continue
        raw = RawInstruction(source, span.location, span.text, span.heredocs, lexed.directives.escape)
        instruction = read_instruction(raw)
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
        else:
            hint = "Begin with FROM image; only ARG may stand before the first FROM."
            raise source.error("there is no FROM before this instruction", span.location, hint=hint)
    if not stages:
        what = "is empty" if not data.strip() else "has no FROM"
        hint = "A Dockerfile begins with FROM image."
        raise DockerfileError(f"{name} {what}", location=Location(name, max(1, len(source.lines))), hint=hint)
    return Dockerfile(
        name,
        lexed.directives,
        tuple(global_args),
        tuple(Stage(index, from_, tuple(body)) for index, (from_, body) in enumerate(stages)),
        lexed.warnings,
        source.lines,
    )


def parse_trigger(trigger: str, source: SourceText, location: Location) -> Instruction:
    """Parse an ONBUILD trigger. Its place is ``location``: the FROM whose image brought it.

    Raises:
        DockerfileError: the trigger is no single instruction, or one that may not be a trigger.
    """

    def refuse(why: str) -> DockerfileError:
        hint = "The base image is at fault: it was built with a trigger that no builder can run."
        return source.error(f"the base image's ONBUILD trigger {trigger[:120]!r} {why}", location, hint=hint)

    try:
        spans = [
            s
            for s in lex(trigger.encode("utf-8", "surrogateescape"), "ONBUILD").spans
            if s.kind is SpanKind.INSTRUCTION
        ]
        if len(spans) != 1:
            raise refuse("is not one instruction")
        instruction = read_instruction(RawInstruction(source, location, spans[0].text, spans[0].heredocs, "\\"))
    except DockerfileError as error:
        if error.location == location or "trigger" in error.message:
            raise
        raise refuse(f"can't be read: {error.message}") from error
    if isinstance(instruction, From):
        raise refuse("is a FROM, which it may not be")
    return instruction
