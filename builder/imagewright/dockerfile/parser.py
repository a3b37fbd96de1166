"""Parses the bytes of a Dockerfile: lines into instructions, instructions into stages.

No I/O.
"""

from __future__ import annotations

from imagewright.dockerfile.instructions import RawInstruction, read_instruction
from imagewright.dockerfile.lexer import SpanKind, lex
from imagewright.dockerfile.model import Arg, Dockerfile, From, Instruction, Maintainer, Onbuild, Stage
from imagewright.dockerfile.source import SourceText
from imagewright.errors import DockerfileError, Location, Reason

MAX_STAGES = 1000
MAX_INSTRUCTIONS = 10_000
MAX_BYTES = 8 * 1024 * 1024  # hand-written files reach a few hundred kilobytes


def parse(data: bytes, name: str) -> Dockerfile:
    """Parse a Dockerfile. ``name`` is the file's name in errors.

    Raises:
        DockerfileError: with the location, the line and a hint; reason ``LimitExceeded`` for too many instructions.
    """
    if len(data) > MAX_BYTES:
        hint = "Check that it is a Dockerfile, and move long data to files that COPY takes."
        raise DockerfileError(f"{name} is too large: {len(data)} bytes, the limit is {MAX_BYTES}", hint=hint)
    lexed = lex(data, name)
    source = lexed.source
    written = [span for span in lexed.spans if span.kind is SpanKind.INSTRUCTION]
    if len(written) > MAX_INSTRUCTIONS:
        raise source.error(
            f"more than {MAX_INSTRUCTIONS} instructions",
            written[MAX_INSTRUCTIONS].location,
            hint="Put commands into a script that RUN executes, and several variables into one ENV.",
            reason=Reason.LIMIT_EXCEEDED,
        )
    global_args: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for span in written:
        raw = RawInstruction(source, span.location, span.text, span.shown, span.heredocs, lexed.directives.escape)
        instruction = read_instruction(raw)
        if isinstance(instruction, From):
            if len(stages) == MAX_STAGES:
                raise source.error(
                    f"more than {MAX_STAGES} stages",
                    span.location,
                    hint="Split the Dockerfile.",
                    reason=Reason.LIMIT_EXCEEDED,
                )
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
        else:
            hint = "Start with FROM image; only ARG may come before the first FROM."
            raise source.error("no FROM before this instruction", span.location, hint=hint)
    if not stages:
        what = "is empty" if not data.strip() else "has no FROM"
        hint = "Start the Dockerfile with FROM image."
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
    """Parse an ONBUILD trigger. Its location is that of the FROM whose image has it.

    Raises:
        DockerfileError: the trigger is not a single instruction, or one that is not allowed as a trigger.
    """
    quoted = f'invalid ONBUILD trigger "{trigger[:120]}" in the base image'
    hint = "Fix the ONBUILD instruction of the base image and rebuild it."
    try:
        lexed = lex(trigger.encode("utf-8", "surrogateescape"), "ONBUILD")
        spans = [span for span in lexed.spans if span.kind is SpanKind.INSTRUCTION]
        found = [read_instruction(RawInstruction(source, location, s.text, s.shown, s.heredocs, "\\")) for s in spans]
    except DockerfileError as error:
        raise source.error(f"{quoted}: {error.message}", location, hint=hint) from error
    match found:
        case [From() | Maintainer() | Onbuild() as instruction]:  # as when it is written (instructions.py)
            name = type(instruction).__name__.upper()
            raise source.error(f"{quoted}: {name} is not allowed as a trigger", location, hint=hint)
        case [instruction] if not isinstance(instruction, From):
            return instruction
        case _:
            raise source.error(f"{quoted}: not a single instruction", location, hint=hint)
