"""What BuildKit and buildah made of the cases, kept as data: the same question to the same version has the same answer.

I/O: reads and writes ``answers/PEER.json`` in this directory. An answer is kept as the hash of its text, an error as
the word: errors are compared as such, and the text of what is the same is ``result.txt``, of what differs
``buildkit.txt``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from cluster.binaries import locked
from cluster.images import catalogue
from cluster.places import cache_root
from peers.case import Case
from peers.programs import MODULE

ERROR = "error"
_FOLDER = Path(__file__).parent / "answers"
# What of case.toml no peer is asked about.
_NOT_ASKED = frozenset({"about", "differs", "flags", "not_executed", "build_platform"})


@dataclass(frozen=True, slots=True)
class Answer:
    """``question`` is the hash of what was asked, ``answer`` that of the text that came of it, or ``ERROR``."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one peer in one version, by the name of the case."""

    peer: str
    version: str
    by_case: dict[str, Answer] = field(default_factory=dict)

    @classmethod
    def kept(cls, peer: str) -> Answers:
        file = _file(peer)
        if not file.exists():
            return cls(peer, "")
        content = json.loads(file.read_text())
        return cls(peer, content["version"], {name: Answer(*each) for name, each in content["answers"].items()})

    def of(self, case: Case, version: str) -> str | None:
        """What this version said to this very question; None when it hasn't been asked."""
        found = self.by_case.get(case.folder.name)
        return found.answer if found and self.version == version and found.question == question(case) else None


def keep(peer: str, version: str, case: Case, answer: str) -> None:
    """Write one answer, keeping those that other processes write; answers of another version are dropped."""
    with locked(cache_root() / "peers" / "answers.lock"):
        before = Answers.kept(peer)
        answers = before.by_case if before.version == version else {}
        answers[case.folder.name] = Answer(question(case), answer)
        lines = [f"  {json.dumps(n)}: {json.dumps([a.question, a.answer])}" for n, a in sorted(answers.items())]
        text = f'{{"version": {json.dumps(version)},\n"answers": {{\n' + ",\n".join(lines) + "\n}}\n"
        file = _file(peer)
        file.parent.mkdir(exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(text)
        partial.rename(file)


def answer_of(text: str) -> str:
    """A described result as it is kept."""
    return ERROR if text.startswith("error: ") else _hash(text.encode())


def question(case: Case) -> str:
    """A hash over all that a peer is given: Dockerfile, table, context, and the base images' configurations.

    What the helpers of the tests make of a table enters by the engine's result, which is built in every run.
    """
    asked = {key: value for key, value in case.table.items() if key not in _NOT_ASKED}
    context = case.folder / "context"
    files = [path for path in sorted(context.rglob("*")) if path.is_symlink() or not path.is_dir()]
    parts = [case.dockerfile, json.dumps(asked, sort_keys=True, default=str).encode(), _bases()]
    for path in files:
        parts.append(f"{path.relative_to(context)} {path.lstat().st_mode & 0o100100}".encode())
        parts.append(os.readlink(path).encode() if path.is_symlink() else path.read_bytes())
    return _hash(b"".join(b"%d:%s" % (len(part), part) for part in parts))


def buildkit_version() -> str:
    """Of the module that it is built from."""
    found = re.search(r"github\.com/moby/buildkit (v\S+)", (MODULE / "go.mod").read_text())
    assert found is not None, "go.mod names no BuildKit"
    return found[1]


def buildah_version() -> str:
    """Of the one that is installed."""
    done = subprocess.run(["buildah", "--version"], check=True, capture_output=True, text=True)
    return done.stdout.split()[2]


def _bases() -> bytes:
    return json.dumps([[image.name, *image.tags, image.config] for image in catalogue("1")], sort_keys=True).encode()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


def _file(peer: str) -> Path:
    return _FOLDER / f"{peer}.json"
