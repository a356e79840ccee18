"""The LoRA nodes: apply files to models, inspect files, convert files."""

from . import convert, info, load, stack

NODES = {**load.NODES, **stack.NODES, **info.NODES, **convert.NODES}
