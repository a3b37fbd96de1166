"""A process like the engine's, for tests that attack it: a secret in its environment and memory, threads, a sandbox.

usage: engine_process.py KIND WORK_DIR ROOTFS SCRIPT. Prints the mode and its reason, then what SCRIPT prints; ends with
its exit code.
"""

import os
import sys
import threading

from imagewright.contract.request import SandboxKind
from imagewright.errors import SandboxError
from imagewright.sandbox.choose import start
from imagewright.sandbox.model import RunCommand, SandboxOptions


def main() -> int:
    kind, work_dir, rootfs, script = sys.argv[1:]
    try:
        sandbox = start(SandboxKind(kind), SandboxOptions(work_dir))
    except SandboxError as error:
        print(error.render())
        return 99
    print(f"{sandbox.kind.value}: {sandbox.reason}", flush=True)
    held = [os.environ.get("SECRET", "") * 3]
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    directory = sandbox.build_directory
    command = RunCommand(
        directory.inside if directory else rootfs, ("/bin/sh", "-c", script), (("PATH", "/bin:/usr/bin"),), "/"
    )
    code = sandbox.run(command, lambda data: void(os.write(1, data)))
    sandbox.close()
    assert held
    return code


def void(_: object) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
