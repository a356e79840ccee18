"""CLIP, VAE and LoRA nodes for ComfyUI."""

if __package__ == "clip_vae_lora":  # installed with pip, where a client of servers needs no node and no torch
    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
    WEB_DIRECTORY = "./web"

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import nodes

        return getattr(nodes, name)

elif __package__:  # ComfyUI gives a package name; a tool that collects this file alone does not
    from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

    WEB_DIRECTORY = "./web"
    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
