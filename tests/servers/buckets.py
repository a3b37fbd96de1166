"""Servers of buckets: a real S3 server over a folder, and the emulators of Google's and Azure's.

Each starts one process and writes below the folder it is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from servers.programs import azurite, programs
from servers.running import free_port, running

S3_KEY, S3_SECRET = "access", "hunter2hunter2"
# Known to everybody who has Azure's emulator.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextlib.contextmanager
def s3_server(folder: Path, certificates: Path | None = None) -> Iterator[str]:
    """versitygw over ``folder``; folders in it are buckets. Its address.

    ``certificates`` is a folder of an Authority that has issued ``server``: the address is of https then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    policies = folder.with_name("policies")
    policies.mkdir(exist_ok=True)
    port = free_port()
    program = str(programs() / "versitygw")
    command = [program, "--port", f"127.0.0.1:{port}", "--access", S3_KEY, "--secret", S3_SECRET]
    if certificates:
        command += ["--cert", str(certificates / "server.crt"), "--key", str(certificates / "server.key")]
    with running([*command, "posix", "--sidecar", str(policies), str(folder)], port, folder.with_name("s3.log")):
        yield f"http{'s' if certificates else ''}://127.0.0.1:{port}"


@contextlib.contextmanager
def gcs_server(folder: Path) -> Iterator[str]:
    """fake-gcs-server over ``folder``; folders in it are buckets. Its address, for STORAGE_EMULATOR_HOST."""
    port = free_port()
    command = [str(programs() / "fake-gcs-server"), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-data", str(folder), "-backend", "memory", "-public-host", f"127.0.0.1:{port}"]
    with running(command, port, folder.with_name("gcs.log")):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def azure_server(folder: Path) -> Iterator[str]:
    """azurite over ``folder``. The address of its account."""
    port = free_port()
    program = azurite() / "node_modules" / ".bin" / "azurite-blob"
    command = [str(program), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder), "--silent"]
    with running([*command, "--skipApiVersionCheck"], port, folder.with_name("azure.log")):
        yield f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
