"""The command-line parser: every command with its arguments, flags and function.

No I/O.
"""

from __future__ import annotations

from importlib import metadata

from imagewright_kubectl.commands import completion, create, get, lifecycle, logs, tree, wait
from imagewright_kubectl.options import PROGRAM, Parser, add_config_flags, add_name, add_output
from imagewright_kubectl.printing import FORMATS
from imagewright_kubectl.specflags import add_fields

_ABOUT = "Create, follow and change ImageBuilds, which build container images in the cluster."
_END = "See kubectl imagewright COMMAND --help; docs/kubectl.md has examples and exit codes."


def parser() -> Parser:
    """All commands."""
    made = Parser(prog=PROGRAM, description=_ABOUT, epilog=_END)
    made.add_argument("--version", action="version", version=f"imagewright {metadata.version('imagewright')}")
    made.set_defaults(takes_kaniko=False, kaniko=[])
    add_config_flags(made, default="")
    commands = made.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, parser_class=Parser
    )

    def command(name: str, about: str) -> Parser:
        one = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        add_config_flags(one)
        return one

    one = command("create", "create an ImageBuild from flags or from a manifest that runs kaniko")
    one.usage = f"{PROGRAM} create [NAME] [FLAGS] [--from FILE | -- KANIKO_FLAGS]"
    add_name(one, optional=True)
    one.add_argument(
        "--from",
        dest="manifest",
        metavar="FILE|-",
        default="",
        help="convert a Pod, Job or other manifest that runs kaniko",
    )
    one.add_argument(
        "--container", metavar="NAME", default="", help="container of the manifest, where several run kaniko"
    )
    one.add_argument(
        "--drop",
        metavar="NAME",
        action="append",
        default=[],
        help="flag, variable or mount path to leave out; repeatable",
    )
    one.add_argument(
        "--dry-run",
        nargs="?",
        const="client",
        default="none",
        choices=("none", "client", "server"),
        metavar="client|server",
        help="only print the YAML; with server the API server validates it",
    )
    add_output(one, *FORMATS)
    add_fields(one)
    one.set_defaults(run=create.run, takes_kaniko=True)
    one = command("get", "list ImageBuilds")
    add_name(one, optional=True)
    add_output(one, *FORMATS, "wide")
    one.add_argument("-A", "--all-namespaces", action="store_true", help="list all namespaces")
    one.add_argument("-l", "--selector", metavar="LABELS", default="", help="label selector")
    one.set_defaults(run=get.run)
    for name, about, run_it in (
        ("rebuild", "build the same inputs again", lifecycle.rebuild),
        ("cancel", "end the running build and start no other until resumed", lifecycle.cancel),
        ("suspend", "start no new build; a running one continues", lifecycle.suspend),
        ("resume", "undo suspend and cancel", lifecycle.resume),
    ):
        one = command(name, about)
        add_name(one)
        add_output(one, *FORMATS)
        one.set_defaults(run=run_it)
    one = command("wait", "wait until the image is built (exit code 0) or has failed (1)")
    add_name(one)
    add_output(one, *FORMATS)
    one.add_argument("--timeout", metavar="DURATION", default="", help="give up with exit code 124 (default: never)")
    one.set_defaults(run=wait.run)
    one = command("logs", "print the log of the current or last build")
    add_name(one)
    one.add_argument(
        "-f", "--follow", action="store_true", help="until the build ends, through retries; exit with its code"
    )
    one.set_defaults(run=logs.run)
    one = command("tree", "show an ImageBuild, its builds and their Pods")
    add_name(one)
    add_output(one, "json", "yaml")
    one.set_defaults(run=tree.run)
    one = command("completion", "print the shell completion script for kubectl-imagewright")
    one.add_argument("shell", choices=tuple(completion.SCRIPTS), metavar="SHELL", help="bash, zsh or fish")
    one.set_defaults(run=completion.run)
    return made
