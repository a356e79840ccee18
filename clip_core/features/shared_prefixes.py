"""A prefix tree (trie) of texts, so that every shared prefix goes through a text encoder once.

With causal attention a token's states depend only on the tokens before it. So each node of the trie needs one state:
"a photo of a" is encoded once, whatever follows. In each layer a node attends to itself and its ancestors, and a linear
layer takes all nodes as one matrix.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TextGroup:
    """Texts of one length that add equally many nodes, so that one attention call takes them all. Their new nodes are
    neighbours in the trie's order, text after text.
    """

    first: int  # number of the first new node
    new: int  # nodes that each text adds: those behind its shared prefix
    length: int  # nodes of each text, shared and new
    paths: tuple[int, ...]  # the nodes of each text from the root on, text after text

    @property
    def texts(self) -> int:
        return len(self.paths) // self.length

    @property
    def last(self) -> int:
        """The number behind the group's last node."""
        return self.first + self.texts * self.new


@dataclass(frozen=True)
class Trie:
    """A prefix tree of N nodes, flattened: one node for each distinct prefix."""

    tokens: tuple[int, ...]  # N
    positions: tuple[int, ...]  # N, in the text
    groups: tuple[TextGroup, ...]  # together they have all nodes, in order
    ends: tuple[int, ...]  # the last node of each text, in the order of the groups
    order: tuple[int, ...]  # the number of each of these texts


def build_trie(texts: Sequence[tuple[int, ...]]) -> Trie:
    """Build the trie of sorted texts, of which no two are equal and none is a prefix of another."""
    # Sorted texts share their longest prefix with a neighbour, so a text adds the nodes behind the prefix that it has
    # in common with the text before it.
    shared = [0, *(_common_prefix(a, b) for a, b in zip(texts, texts[1:]))]

    # Nodes are numbered group by group: by the count of new nodes, then by length.
    order = sorted(range(len(texts)), key=lambda n: (len(texts[n]) - shared[n], len(texts[n])))
    first, nodes = [0] * len(texts), 0
    for number in order:
        first[number] = nodes
        nodes += len(texts[number]) - shared[number]

    # A text's path is the beginning of its neighbour's path and then its own new nodes.
    paths: list[tuple[int, ...]] = []
    for text, same, start in zip(texts, shared, first):
        above = paths[-1][:same] if same else ()
        paths.append((*above, *range(start, start + len(text) - same)))
    return Trie(
        tuple(token for number in order for token in texts[number][shared[number] :]),
        tuple(position for number in order for position in range(shared[number], len(texts[number]))),
        tuple(_groups(order, shared, first, paths)),
        tuple(paths[number][-1] for number in order),
        tuple(order),
    )


def batches(texts: Sequence[tuple[int, ...]], nodes: int) -> Iterator[tuple[int, int]]:
    """Cut sorted texts into batches whose tries have at most that many nodes: (first, behind the last)."""
    start = size = 0
    for number, text in enumerate(texts):
        new = len(text) - (_common_prefix(texts[number - 1], text) if number > start else 0)
        if number > start and size + new > nodes:
            yield start, number
            start, size, new = number, 0, len(text)
        size += new
    if texts:
        yield start, len(texts)


def _groups(
    order: Sequence[int], shared: Sequence[int], first: Sequence[int], paths: Sequence[tuple[int, ...]]
) -> Iterator[TextGroup]:
    """The texts with equally many new nodes and the same length, group by group."""
    kinds: dict[tuple[int, int], list[int]] = {}
    for number in order:
        kinds.setdefault((len(paths[number]) - shared[number], len(paths[number])), []).append(number)
    for (new, length), members in kinds.items():
        yield TextGroup(first[members[0]], new, length, tuple(node for number in members for node in paths[number]))


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the longest common prefix."""
    for length, (left, right) in enumerate(zip(a, b)):
        if left != right:
            return length
    return min(len(a), len(b))
