"""The program ``kubectl_complete-imagewright``, which kubectl and the shells' scripts run to complete a command line.

I/O: reads the kubeconfig and asks the API server for names; silent where that fails. It takes the words so far, the
last one unfinished, and prints cobra's format: a candidate per line with its description after a tab, and last ``:``
with a ShellCompDirective.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kubernetes import config

from imagewright.errors import ImagewrightError
from imagewright_kubectl.kubeconfig import ConfigFlags, connect
from imagewright_kubectl.options import Parser
from imagewright_kubectl.parser import parser
from imagewright_operator.kubeapi.errors import ApiError

_NO_FILES, _FILES = 4, 0  # ShellCompDirectiveNoFileComp, ShellCompDirectiveDefault
_FILE_FLAGS = ("--kubeconfig", "--from", "--inline")

Candidate = tuple[str, str]


def main() -> None:
    """The console script ``kubectl_complete-imagewright``."""
    for line in answer(sys.argv[1:]):
        print(line)


def answer(words: Sequence[str]) -> list[str]:
    """The lines to print."""
    # bash splits --output=j into three words; no other word is a bare "=".
    *before, unfinished = [*(word for word in words[:-1] if word != "="), *(words[-1:] or [""])]
    unfinished = "" if unfinished == "=" else unfinished
    position = _parse(before)
    try:
        found, directive = _candidates(position, unfinished)
        fitting = sorted({one for one in found if one[0].startswith(unfinished)})
    except (ImagewrightError, ApiError, config.ConfigException, OSError):
        fitting, directive = [], _NO_FILES  # an error would end up in the command line that is being typed
    return [*(f"{name}\t{about}" if about else name for name, about in fitting), f":{directive}"]


@dataclass(frozen=True, slots=True)
class _Position:
    """What the words before the unfinished one determine."""

    parser: Parser  # of the command, or of all of them
    is_command_known: bool
    words: int  # after the command, without flags
    pending: argparse.Action | None  # a flag whose value comes next
    values: Mapping[str, str]  # of flags


def _parse(before: Sequence[str]) -> _Position:
    current, known, words = parser(), False, 0
    pending: argparse.Action | None = None
    values: dict[str, str] = {}
    for word in before:
        if pending is not None:
            values[pending.dest] = word
            pending = None
        elif word.startswith("-"):
            name, equals, value = word.partition("=")
            action = _flags(current).get(name)
            if action is not None and action.nargs != 0:
                if equals:
                    values[action.dest] = value
                elif action.nargs != "?":
                    pending = action
        elif known:
            words += 1
        else:
            current, known = _commands(current).choices.get(word, current), True
    return _Position(current, known, words, pending, values)


def _candidates(position: _Position, unfinished: str) -> tuple[list[Candidate], int]:
    name, equals, _ = unfinished.partition("=")
    if position.pending is not None:
        return _values(position.pending, position, "")
    if equals and name in _flags(position.parser):
        return _values(_flags(position.parser)[name], position, f"{name}=")
    if unfinished.startswith("-"):
        return [(flag, action.help or "") for flag, action in _flags(position.parser).items()], _NO_FILES
    if not position.is_command_known:
        listed = _commands(position.parser)._choices_actions
        return [(one.dest, one.help or "") for one in listed], _NO_FILES
    positional = [action for action in position.parser._get_positional_actions() if action.dest in ("name", "shell")]
    if position.words or not positional:
        return [], _NO_FILES
    return _values(positional[0], position, "")


def _values(action: argparse.Action, position: _Position, before: str) -> tuple[list[Candidate], int]:
    if action.choices:
        return [(before + str(choice), "") for choice in action.choices], _NO_FILES
    if set(_FILE_FLAGS) & set(action.option_strings):
        return [], _FILES
    ask: Callable[[Mapping[str, str]], Iterator[Candidate]] | None = {
        "namespace": _namespaces,
        "context": _contexts,
        "name": _imagebuilds if not position.parser.prog.endswith(" create") else None,
    }.get(action.dest)
    return [(before + value, about) for value, about in (ask(position.values) if ask else ())], _NO_FILES


def _imagebuilds(values: Mapping[str, str]) -> Iterator[Candidate]:
    connection = connect(_config_flags(values))
    for body in connection.api.imagebuilds(connection.namespace):
        yield body["metadata"]["name"], (body.get("status") or {}).get("phase", "")


def _namespaces(values: Mapping[str, str]) -> Iterator[Candidate]:
    yield from ((name, "") for name in connect(_config_flags(values)).api.namespaces())


def _contexts(values: Mapping[str, str]) -> Iterator[Candidate]:
    contexts, _ = config.list_kube_config_contexts(config_file=_config_flags(values).files)  # type: ignore[no-untyped-call]
    yield from ((one["name"], "") for one in contexts)


def _config_flags(values: Mapping[str, str]) -> ConfigFlags:
    return ConfigFlags(values.get("kubeconfig", ""), values.get("context", ""), values.get("namespace", ""))


def _flags(of: Parser) -> dict[str, argparse.Action]:
    return {name: action for action in of._actions for name in action.option_strings}


def _commands(of: Parser) -> argparse._SubParsersAction[Parser]:
    return next(action for action in of._actions if isinstance(action, argparse._SubParsersAction))
