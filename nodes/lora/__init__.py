"""LoRAs applied to models, and what is in their files."""

from . import info, load, stack

NODES = {**load.NODES, **stack.NODES, **info.NODES}
