"""The command line of ``imagewright build`` and ``plan``: kaniko's flags, a context that is no flag, docker's names.

No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imagewright.cli.arguments import Arguments, parse, unexpected
from imagewright.cli.flags import COMMAND_FLAGS, Flag
from imagewright.errors import UsageError


def parse_build(
    words: Sequence[str], environment: Mapping[str, str], flags: Sequence[Flag] = COMMAND_FLAGS
) -> Arguments:
    """Parse the words after ``build`` or ``plan``; the context is ``--context``, however it was given.

    Raises:
        UsageError: as ``arguments.parse``; more than one context.
    """
    arguments = parse(words, environment, flags, takes_words=True)
    contexts, arguments.words = arguments.words, []
    for word in contexts:
        if word.lower() in ("true", "false"):
            raise unexpected(word)  # of a boolean that was given as --flag true
    if len(contexts) > 1:
        raise UsageError(
            f"a build has one context, and {len(contexts)} are given",
            hint="Every other setting is a flag, and a value with spaces needs quotes.",
        )
    if contexts and "context" in arguments.values:
        raise UsageError("the context is given twice: as a word and by --context", hint="Leave one of them out.")
    if contexts:
        arguments.values["context"] = contexts
    return arguments
