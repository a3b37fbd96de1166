"""Prints which sandbox mode is chosen here. usage: choice_process.py KIND WORK_DIR.

Prints ``KIND: why``, or the error.
"""

import sys

from imagewright.contract.request import SandboxKind
from imagewright.errors import SandboxError
from imagewright.sandbox.choose import start
from imagewright.sandbox.model import SandboxOptions


def main() -> None:
    kind, work_dir = sys.argv[1:]
    try:
        sandbox = start(SandboxKind(kind), SandboxOptions(work_dir))
    except SandboxError as error:
        print(error.render().replace("\n", " "))
        return
    print(f"{sandbox.kind.value}: {sandbox.reason}")
    sandbox.close()


if __name__ == "__main__":
    main()
