"""Several processes of a script, started as torchrun starts them, on this machine alone."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def run_together(script: Path, count: int, *arguments: object) -> tuple[list[int], list[str]]:
    """Run a script in so many processes; their exit codes, and what each said on stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "TORCHELASTIC_RUN_ID": "x"}
    worker = [sys.executable, str(script), *map(str, arguments)]
    running = [
        subprocess.Popen(
            worker, env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE
        )
        for rank in range(count)
    ]
    said = [process.communicate()[1].decode() for process in running]
    return [process.returncode for process in running], said
