"""A Dockerfile's bytes to a ``Dockerfile``: lines to instructions, instructions to stages.

No I/O. Called by the engine and, for ONBUILD triggers, by ``plan``.
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
        hint = "Is it a Dockerfile? Long data belongs into files that COPY takes."
        raise DockerfileError(f"{name} has {len(data)} bytes; a Dockerfile may have {MAX_BYTES}", hint=hint)
    lexed = lex(data, name)
    source = lexed.source
    global_args: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for span in lexed.spans:
        if span.kind is not SpanKind.INSTRUCTION:
            continue
        raw = RawInstruction(source, span.location, span.text, span.shown, span.heredocs, lexed.directives.escape)
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
    quoted = f"the base image's ONBUILD trigger {trigger[:120]!r}"
    hint = "The base image is at fault: it was built with a trigger that can't be run."
    try:
        lexed = lex(trigger.encode("utf-8", "surrogateescape"), "ONBUILD")
        spans = [span for span in lexed.spans if span.kind is SpanKind.INSTRUCTION]
        found = [read_instruction(RawInstruction(source, location, s.text, s.shown, s.heredocs, "\\")) for s in spans]
    except DockerfileError as error:
        raise source.error(f"{quoted} can't be read: {error.message}", location, hint=hint) from error
    match found:
        case [From()]:
            raise source.error(f"{quoted} is a FROM, which it may not be", location, hint=hint)
        case [instruction] if not isinstance(instruction, From):
            return instruction
        case _:
            raise source.error(f"{quoted} is not one instruction", location, hint=hint)
