"""CLIP, VAE and LoRA nodes for ComfyUI."""

if __package__:  # ComfyUI gives a package name; a tool that collects this file alone does not
    from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

    WEB_DIRECTORY = "./web"
    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
