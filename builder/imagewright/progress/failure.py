"""The end of a build that failed, for people and for machines.

No I/O but writing to the stream it is given. Called by the displays. The excerpt holds a command's output and a
Dockerfile's lines, a message may hold what a server said: none of it reaches a terminal with its escapes in it.
"""

from __future__ import annotations

from rich.text import Text

from imagewright.errors import ImagewrightError, StepError
from imagewright.terminal import clean


def failure_lines(error: ImagewrightError) -> list[str]:
    """Message with reason, place, the lines around it, the command's last lines of output, hint; without escapes."""
    return [clean(line) for line in error.render().split("\n")]


def failure_text(error: ImagewrightError) -> Text:
    """The same with colours."""
    text = Text()
    for number, line in enumerate(failure_lines(error)):
        text.append("\n" if number else "")
        head, colon, rest = line.partition(":")
        match head:
            case "error" if number == 0:
                text.append("error:", "bold red").append(rest)
            case "hint":
                text.append("hint:", "bold cyan").append(rest)
            case _ if line.lstrip().startswith("-->"):
                text.append(line, "bold")
            case _ if set(line.partition("|")[2].strip()) == {"^"}:
                text.append(line, "red")
            case _:
                text.append(head + colon + rest)
    return text


def failure_fields(error: ImagewrightError) -> dict[str, object]:
    """The same as fields; those that don't apply are left out."""
    fields: dict[str, object] = {"reason": error.reason.value, "hint": error.hint, "instruction": error.instruction}
    if error.location is not None:
        fields |= {"file": error.location.file, "line": error.location.line}
    if isinstance(error, StepError):
        fields["exitCode"] = error.exit_code
    fields["excerpt"] = [clean(line) for line in error.excerpt]
    return {name: value for name, value in fields.items() if value not in ("", [])}
