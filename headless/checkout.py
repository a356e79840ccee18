"""Binds this checkout to the import name `clip_vae_lora`, whatever its folder is called.

Scripts and tests call `bind()` before the first import of the pack. The root never goes on `sys.path`: there its
`nodes` and `lora` would shadow ComfyUI's modules of the same names. Installed with pip, the name is there already.
"""

import importlib.machinery
import sys
import types
from pathlib import Path

NAME = "clip_vae_lora"
ROOT = Path(__file__).resolve().parents[1]


def bind() -> Path:
    """Make `import clip_vae_lora.<folder>` lead to this checkout; returns the checkout's root."""
    if NAME not in sys.modules:
        package = types.ModuleType(NAME)
        spec = importlib.machinery.ModuleSpec(NAME, None, is_package=True)
        package.__path__ = spec.submodule_search_locations = [str(ROOT)]
        package.__spec__ = spec
        sys.modules[NAME] = package
    return ROOT
