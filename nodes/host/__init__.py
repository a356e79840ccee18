"""Where we run: inside ComfyUI, or alone. The choice is made here, once; nobody else asks.

`host` is the module chosen. Both modules have the functions that `interface.Host` lists, and nothing else is public.
"""

from .interface import Host

__all__ = ["Host", "host"]


def _choose() -> Host:
    try:
        from . import comfyui
    except ModuleNotFoundError as error:
        if error.name not in ("comfy", "folder_paths"):
            raise
        from . import standalone

        return standalone
    return comfyui


host = _choose()
