"""Give one parser bytes that coverage leads to: only documented errors may come out, and soon.

Run by ``scripts/fuzz``; the first argument is the target, libFuzzer's arguments follow. An input that fails is written
to a file: make it a case, or an entry of ``tests/hostile``.
"""

from __future__ import annotations

import sys
import time

import atheris

with atheris.instrument_imports(include=["imagewright", "imagewright_operator"]):
    from fuzz.targets import TARGETS, run

# Of processor time, instrumented code included; any input may be interrupted by a garbage collection.
_SECONDS, _SECONDS_PER_BYTE = 0.25, 100e-6
_TRIES = 3


def main() -> None:
    target = sys.argv.pop(1)
    assert target in TARGETS, f"one of {', '.join(TARGETS)}"

    def one_input(data: bytes) -> None:
        limit = _SECONDS + _SECONDS_PER_BYTE * len(data)
        took = [_seconds(target, data)]
        while took[-1] > limit and len(took) < _TRIES:
            took.append(_seconds(target, data))
        assert min(took) <= limit, f"{min(took):.2f} s of processor time for {len(data)} bytes"

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


def _seconds(target: str, data: bytes) -> float:
    begin = time.process_time()
    run(target, data)
    return time.process_time() - begin


if __name__ == "__main__":
    main()
