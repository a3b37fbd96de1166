"""The kept corpora of the fuzzer: one JSON file of base64 texts for each target. Reads and writes files."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path

from fuzz.seeds import SEEDS

_FOLDER = Path(__file__).with_name("corpus")
_CASES = Path(__file__).parents[1] / "cases"
_MOST, _LONGEST = 120, 2600  # kept inputs of a target, and bytes of one


def kept(target: str) -> list[bytes]:
    """The inputs of a target that tests replay, and that fuzzing begins with."""
    file = _FOLDER / f"{target}.json"
    return [base64.b64decode(text) for text in json.loads(file.read_text())] if file.exists() else []


def main(command: str, target: str, folder: Path) -> None:
    """``read``: fill a folder for the fuzzer. ``write``: keep the folder's inputs."""
    if command == "read":
        cases = [file.read_bytes() for file in _CASES.glob("*/Dockerfile")] if target == "dockerfile" else []
        for data in (*kept(target), *SEEDS.get(target, []), *cases):
            (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)
        return
    inputs = {data for file in folder.iterdir() if len(data := file.read_bytes()) <= _LONGEST}
    ordered = sorted(inputs, key=lambda data: (len(data), data))
    found = ordered[:: max(1, -(-len(ordered) // _MOST))]
    _FOLDER.mkdir(exist_ok=True)
    texts = [base64.b64encode(data).decode() for data in found]
    (_FOLDER / f"{target}.json").write_text("[\n" + ",\n".join(json.dumps(text) for text in texts) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
