"""Where we run: inside ComfyUI, or alone. The choice is made here, once; nobody else asks.

`host` has the functions that `interface.Host` lists, gathered from the files of the side chosen, and nothing else.
"""

from .interface import Host, OnStep, PictureRoute, Route, gather_host

__all__ = ["Host", "OnStep", "PictureRoute", "Route", "host"]


def _choose() -> Host:
    try:
        from . import comfyui
    except ModuleNotFoundError as error:
        if error.name not in ("comfy", "folder_paths"):
            raise
        from . import alone

        return gather_host(*alone.FILES)
    return gather_host(*comfyui.FILES)


host = _choose()
