"""What things are, and what does not go with what."""

from . import node

NODES = {**node.NODES}
