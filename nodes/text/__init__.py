"""Prompts: text encoders loaded, prompts encoded, tokens counted."""

from . import encode, inspect_tokens, load

NODES = {**load.NODES, **encode.NODES, **inspect_tokens.NODES}
