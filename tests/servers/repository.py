"""Git repositories made by the git program, as tests need them. Writes below the folder it is given."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link in a commit."""

    target: str


@dataclass(frozen=True, slots=True)
class Submodule:
    """A submodule in a commit: where it is fetched from, and which commit of it."""

    url: str
    commit: str


Content = str | bytes | Link | Submodule


@dataclass(frozen=True, slots=True)
class Repository:
    """A bare repository at ``path``; commits are made without a working tree, so that hostile ones can be."""

    path: Path

    @classmethod
    def create(cls, path: Path, algorithm: str = "sha1") -> Repository:
        """A new one whose HEAD is ``main``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        repository = cls(path)
        _run(["git", "init", "--quiet", "--bare", "--initial-branch=main", f"--object-format={algorithm}", str(path)])
        return repository

    def git(self, *words: str, data: bytes = b"") -> str:
        """Run git on it; its standard output, stripped."""
        return _run(["git", f"--git-dir={self.path}", *words], data).strip()

    def commit(self, files: Mapping[str, Content], *, branch: str = "main", message: str = "A commit") -> str:
        """Commit exactly these files on top of ``branch``; the commit's hash."""
        parent = self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
        entries, modules = [], []
        for name, content in files.items():
            match content:
                case Link(target=target):
                    entries.append(f"120000 {self._blob(target.encode())}\t{name}")
                case Submodule(url=url, commit=commit):
                    entries.append(f"160000 {commit}\t{name}")
                    modules.append(f'[submodule "{name}"]\n\tpath = {name}\n\turl = {url}\n')
                case str():
                    entries.append(f"100644 {self._blob(content.encode())}\t{name}")
                case bytes():
                    entries.append(f"100644 {self._blob(content)}\t{name}")
        if modules:
            entries.append(f"100644 {self._blob(''.join(modules).encode())}\t.gitmodules")
        # --index-info adds; an index left from the last commit would keep files that are not in this one.
        (self.path / "index").unlink(missing_ok=True)
        self.git("update-index", "--index-info", data=("\n".join(entries) + "\n").encode())
        tree = self.git("write-tree")
        commit = self.git("commit-tree", tree, "-m", message, *(["-p", parent] if parent else []))
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def commit_folder(self, folder: Path, *, branch: str = "main") -> str:
        """Commit the files of a folder."""
        files: dict[str, Content] = {}
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if path.is_symlink():
                files[name] = Link(os.readlink(path))
            elif path.is_file():
                files[name] = path.read_bytes()
        return self.commit(files, branch=branch)

    def tag(self, name: str, commit: str, *, annotated: bool = False) -> None:
        """A lightweight or annotated tag."""
        self.git("tag", *(["-a", "-m", name] if annotated else []), name, commit)

    def _blob(self, data: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", data=data)


def _run(words: list[str], data: bytes = b"") -> str:
    done = subprocess.run(words, input=data, env=_ENVIRONMENT, capture_output=True, check=False)
    if done.returncode:
        raise AssertionError(f"{words}: {done.stderr.decode()}")
    return done.stdout.decode()
