"""Labels learned from a few labelled pictures of an index."""

from . import learn_labels, load_labels

NODES = {**learn_labels.NODES, **load_labels.NODES}
