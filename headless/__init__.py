"""Workflows without a browser, from Python: the same code as the command line.

    from clip_vae_lora.headless import run

    result = run("workflow.json", {"3.seed": 7}, server="http://127.0.0.1:8188", output="pictures")
    print(result.files)

Nothing is imported before it is used. The functions are in library.py, the clients in plain.py and remote/client.py.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .library import Result, check, run, run_async, run_batch, to_api
    from .plain import Client
    from .remote.client import Client as AsyncClient

__all__ = ["AsyncClient", "Client", "Result", "check", "run", "run_async", "run_batch", "to_api"]
_PLACES = {"AsyncClient": ("remote.client", "Client"), "Client": ("plain", "Client")}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, inside = _PLACES.get(name, ("library", name))
    return getattr(import_module(f".{module}", __name__), inside)
