"""Servers of what ADD takes from elsewhere: files over http, and git repositories, each case's at a path of its own.

Serves on loopback ports from construction to ``close``, to both builders at once. In what is recorded the servers have
names that are the same everywhere.
"""

from __future__ import annotations

import http.server
import shutil
import threading
from functools import partial
from pathlib import Path
from types import TracebackType

from peers.case import GIT, WEB, Case
from peers.files import write_tree
from servers.git import GitServer, GitServerOptions
from servers.repository import Repository


class Elsewhere:
    """A web server and a git server. Also a context manager."""

    def __init__(self, folder: Path) -> None:
        self._web_root = folder / "web"
        self._git_root = folder / "git"
        for root in (self._web_root, self._git_root):
            root.mkdir(parents=True)
        self._served: set[str] = set()
        self._lock = threading.Lock()
        handler = partial(_Quiet, directory=str(self._web_root))
        self._web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._web.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self._git = GitServer(GitServerOptions(self._git_root, folder, hosts=("127.0.0.1",), tls=False))

    def serve(self, case: Case) -> dict[str, str]:
        """Serve what a case has elsewhere; the build arguments that say where."""
        name = case.folder.name
        with self._lock:
            if name not in self._served:
                self._served.add(name)
                write_tree(self._made(self._web_root / name), case.table.get("web", {}))
                for place, files in case.table.get("git", {}).items():
                    repository, _, branch = place.partition("#")
                    self._commit(self._git_root / name / repository, files, branch or "main")
        served = {"WEB": "web" in case.table, "GIT": "git" in case.table}
        places = {"WEB": f"{self._addresses[WEB]}/{name}", "GIT": f"{self._addresses[GIT]}/{name}"}
        return {argument: places[argument] for argument, is_there in served.items() if is_there}

    def named(self, case: Case, text: str) -> str:
        """A result with names instead of ports."""
        for shown, address in self._addresses.items():
            text = text.replace(f"{address}/{case.folder.name}", shown).replace(address, shown)
        return text

    @property
    def _addresses(self) -> dict[str, str]:
        return {WEB: f"http://127.0.0.1:{self._web.server_address[1]}", GIT: self._git.url("").rstrip("/")}

    @staticmethod
    def _made(folder: Path) -> Path:
        folder.mkdir()
        return folder

    def _commit(self, path: Path, files: dict[str, object], branch: str) -> None:
        """Commit a tree, executable files and all; ``main`` is tagged ``v1``, with a message."""
        repository = Repository(path) if path.exists() else Repository.create(path)
        tree = path.parent / f"{path.name}-{branch}"
        tree.mkdir()
        write_tree(tree, files)  # type: ignore[arg-type]
        (path / "index").unlink(missing_ok=True)
        repository.git("-C", str(tree), f"--work-tree={tree}", "add", "--all", ".")
        commit = repository.git("commit-tree", repository.git("write-tree"), "-m", "A commit")
        repository.git("update-ref", f"refs/heads/{branch}", commit)
        if branch == "main":
            repository.tag("v1", commit, annotated=True)
        shutil.rmtree(tree)

    def close(self) -> None:
        self._web.shutdown()
        self._thread.join()
        self._web.server_close()
        self._git.close()

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""
