"""CONDITIONING combined, compared, saved and loaded."""

from . import nodes

NODES = nodes.NODES
