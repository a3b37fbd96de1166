"""Runs a command without a network, in a process that may have less than the test's.

usage: network_process.py KIND WORK_DIR ROOTFS PROGRAM WORD... Prints what the command prints, or the error.
"""

import os
import sys

from imagewright.contract.request import SandboxKind
from imagewright.errors import SandboxError
from imagewright.sandbox.model import RunCommand
from imagewright.sandbox.runner.client import Runner


def main() -> int:
    kind, work_dir, rootfs, *argv = sys.argv[1:]
    runner = Runner(work_dir)
    command = RunCommand(rootfs, tuple(argv), (("PATH", "/bin:/usr/bin:/sbin:/usr/sbin"),), "/", network=False)
    try:
        return runner.run(SandboxKind(kind), command, lambda data: os.write(1, data) and None)
    except SandboxError as error:
        print(error.render())
        return 99
    finally:
        runner.close()


if __name__ == "__main__":
    sys.exit(main())
