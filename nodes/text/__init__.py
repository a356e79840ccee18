"""Prompts: text encoders loaded, prompts encoded, tokens counted."""

from . import encode, load

NODES = {**load.NODES, **encode.NODES}
