"""Workflows without a browser, from Python: the same code as the command line.

    from clip_vae_lora.headless import run

    result = run("workflow.json", {"3.seed": 7}, server="http://127.0.0.1:8188", output="pictures")
    print(result.files)

Nothing is imported before it is used. The functions are in library.py, the clients in plain.py and remote/client.py,
the errors where they come from. README.md beside this file has more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..files.errors import FileFormatError
    from .batch.task import JobsFailed
    from .library import Result, check, run, run_async, run_batch, to_api
    from .plain import Client
    from .remote.client import Client as AsyncClient
    from .remote.errors import Interrupted, JobLost, LoginNeeded, NotComfyUI, ServerError, TimedOut, Unreachable
    from .workflow.graph import NodeFailure, WorkflowError

__all__ = [
    "AsyncClient",
    "Client",
    "FileFormatError",
    "Interrupted",
    "JobLost",
    "JobsFailed",
    "LoginNeeded",
    "NodeFailure",
    "NotComfyUI",
    "Result",
    "ServerError",
    "TimedOut",
    "Unreachable",
    "WorkflowError",
    "check",
    "run",
    "run_async",
    "run_batch",
    "to_api",
]
_PLACES = {
    "AsyncClient": (".remote.client", "Client"),
    "Client": (".plain", "Client"),
    "FileFormatError": ("..files.errors", "FileFormatError"),
    "JobsFailed": (".batch.task", "JobsFailed"),
    **{name: (".workflow.graph", name) for name in ("NodeFailure", "WorkflowError")},
    **{
        name: (".remote.errors", name)
        for name in ("Interrupted", "JobLost", "LoginNeeded", "NotComfyUI", "ServerError", "TimedOut", "Unreachable")
    },
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, inside = _PLACES.get(name, (".library", name))
    return getattr(import_module(module, __name__), inside)
