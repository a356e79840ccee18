"""A ComfyUI server with the pack in it, for as long as a `with` block lasts.

COMFYUI_PYTHON names the Python that has ComfyUI's requirements, where it is not the one the tests run in;
COMFYUI_ARGS holds further arguments for the server, such as --front-end-root and a folder.
"""

import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
START_S = (
    24 * 3600
)  # ends a hang and nothing else: a start may take minutes on a busy machine, and a crash is seen at once


@contextmanager
def served(
    comfyui_path: Path, base: Path, *, api_nodes: bool = False, folder: str = "some_other-name.v2"
) -> Iterator[str]:
    """The address of a ComfyUI on a free port, its files under `base`; with the nodes of paid services where asked, and
    with the pack in a folder of this name.
    """
    (base / "custom_nodes").mkdir(exist_ok=True)
    (base / "custom_nodes" / folder).symlink_to(ROOT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [os.environ.get("COMFYUI_PYTHON", sys.executable), "main.py", "--cpu", "--listen", "127.0.0.1"]
    command += ["--port", str(port), "--base-directory", str(base)]
    command += [] if api_nodes else ["--disable-api-nodes"]
    command += shlex.split(os.environ.get("COMFYUI_ARGS", ""))
    with open(base / "log.txt", "w") as log:
        process = subprocess.Popen(command, cwd=comfyui_path, stdout=log, stderr=log)
        try:
            _wait(process, f"http://127.0.0.1:{port}", base / "log.txt")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _wait(process: subprocess.Popen, address: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(f"{address}/system_stats", timeout=2).read()
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.5)
