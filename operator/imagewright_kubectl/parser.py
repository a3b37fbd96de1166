"""The command-line parser: every command with its arguments, flags and function.

No I/O.
"""

from __future__ import annotations

from importlib import metadata

from imagewright_kubectl.commands import completion, create, get, lifecycle, logs, tree, wait
from imagewright_kubectl.options import PROGRAM, Parser, add_name, add_output, add_place
from imagewright_kubectl.printing import FORMATS
from imagewright_kubectl.specflags import add_fields

_ABOUT = "Builds container images in the cluster: what people do with ImageBuilds."
_END = "Every command: kubectl imagewright COMMAND --help. docs/kubectl.md has examples and exit codes."


def parser() -> Parser:
    """All commands."""
    made = Parser(prog=PROGRAM, description=_ABOUT, epilog=_END)
    made.add_argument("--version", action="version", version=f"imagewright {metadata.version('imagewright')}")
    made.set_defaults(takes_kaniko=False, kaniko=[])
    add_place(made, default="")
    commands = made.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, parser_class=Parser
    )

    def command(name: str, about: str) -> Parser:
        one = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        add_place(one)
        return one

    one = command("create", "create an ImageBuild, from flags, or from what runs kaniko")
    one.usage = f"{PROGRAM} create [NAME] [FLAGS] [--from FILE | -- KANIKO'S FLAGS]"
    add_name(one, optional=True)
    one.add_argument(
        "--from", dest="manifest", metavar="FILE|-", default="", help="a Pod, Job or other YAML that runs kaniko"
    )
    one.add_argument("--container", metavar="NAME", default="", help="of the manifest, where several run kaniko")
    one.add_argument(
        "--drop",
        metavar="NAME",
        action="append",
        default=[],
        help="a flag, variable or mount path that is left out; many times",
    )
    one.add_argument(
        "--dry-run",
        nargs="?",
        const="client",
        default="none",
        choices=("none", "client", "server"),
        metavar="client|server",
        help="create nothing, print the YAML; server has the API server look at it",
    )
    add_output(one, *FORMATS)
    add_fields(one)
    one.set_defaults(run=create.run, takes_kaniko=True)
    one = command("get", "show ImageBuilds")
    add_name(one, optional=True)
    add_output(one, *FORMATS, "wide")
    one.add_argument("-A", "--all-namespaces", action="store_true", help="those of all namespaces")
    one.add_argument("-l", "--selector", metavar="LABELS", default="", help="only those with these labels")
    one.set_defaults(run=get.run)
    for name, about, run_it in (
        ("rebuild", "build the same inputs once more", lifecycle.rebuild),
        ("cancel", "end the running build, and start none until resumed", lifecycle.cancel),
        ("suspend", "start no new build; one that runs goes on", lifecycle.suspend),
        ("resume", "take back suspend and cancel", lifecycle.resume),
    ):
        one = command(name, about)
        add_name(one)
        add_output(one, *FORMATS)
        one.set_defaults(run=run_it)
    one = command("wait", "wait until the image is built (exit code 0) or has failed (1)")
    add_name(one)
    add_output(one, *FORMATS)
    one.add_argument(
        "--timeout", metavar="DURATION", default="", help="then the exit code is 124; endless if not given"
    )
    one.set_defaults(run=wait.run)
    one = command("logs", "show what the present or last build writes")
    add_name(one)
    one.add_argument(
        "-f", "--follow", action="store_true", help="to the build's end, through retries; with its exit code"
    )
    one.set_defaults(run=logs.run)
    one = command("tree", "show an ImageBuild, its builds and their Pods")
    add_name(one)
    add_output(one, "json", "yaml")
    one.set_defaults(run=tree.run)
    one = command("completion", "print what a shell needs to complete kubectl-imagewright")
    one.add_argument("shell", choices=tuple(completion.SCRIPTS), metavar="SHELL", help="bash, zsh or fish")
    one.set_defaults(run=completion.run)
    return made
