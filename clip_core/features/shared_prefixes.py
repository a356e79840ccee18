"""Where texts begin with the same tokens: a plan by which every shared beginning goes through an encoder once.

With causal attention a token's states depend on the tokens before it only. So the tokens of all texts form a tree, and
one state for each node of it is enough: "a photo of a" is encoded once, whatever follows. The nodes of one layer do not
wait for each other, they only look at their ancestors; all of them go through a linear layer as one matrix.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Texts of one length that add the same number of nodes each, one text's after the other's."""

    first: int  # node, of the first text
    new: int  # nodes that each text adds, its last ones
    length: int  # nodes of each text, shared ones and new ones
    paths: tuple[int, ...]  # the nodes of each text from the root on, text after text

    @property
    def texts(self) -> int:
        return len(self.paths) // self.length

    @property
    def last(self) -> int:
        """Behind the group's last node."""
        return self.first + self.texts * self.new


@dataclass(frozen=True)
class Tree:
    """N nodes: their tokens and their places in the text; who looks at whom; and where each text ends."""

    tokens: tuple[int, ...]
    places: tuple[int, ...]
    groups: tuple[Group, ...]  # which together have all nodes, in order
    ends: tuple[int, ...]  # the last node of each text, in the order of the groups
    order: tuple[int, ...]  # which text that is


def plan(texts: Sequence[tuple[int, ...]]) -> Tree:
    """The tree of different texts, sorted, of which none is another's beginning."""
    shared = [0, *(_shared(a, b) for a, b in zip(texts, texts[1:]))]
    order = sorted(range(len(texts)), key=lambda n: (len(texts[n]) - shared[n], len(texts[n])))
    first, nodes = [0] * len(texts), 0
    for number in order:
        first[number] = nodes
        nodes += len(texts[number]) - shared[number]
    paths: list[tuple[int, ...]] = []
    for text, same, start in zip(texts, shared, first):
        above = paths[-1][:same] if same else ()
        paths.append((*above, *range(start, start + len(text) - same)))
    return Tree(
        tuple(token for number in order for token in texts[number][shared[number] :]),
        tuple(place for number in order for place in range(shared[number], len(texts[number]))),
        tuple(_groups(order, shared, first, paths)),
        tuple(paths[number][-1] for number in order),
        tuple(order),
    )


def batches(texts: Sequence[tuple[int, ...]], nodes: int) -> Iterator[tuple[int, int]]:
    """Cut sorted texts where a tree of them would get more than that many nodes: (first, behind the last)."""
    start = size = 0
    for number, text in enumerate(texts):
        new = len(text) - (_shared(texts[number - 1], text) if number > start else 0)
        if number > start and size + new > nodes:
            yield start, number
            start, size, new = number, 0, len(text)
        size += new
    if texts:
        yield start, len(texts)


def _groups(order: Sequence[int], shared: Sequence[int], first: Sequence[int], paths: Sequence[tuple[int, ...]]):
    """Neighbours in the order with as many new nodes and the same length, together."""
    kinds: dict[tuple[int, int], list[int]] = {}
    for number in order:
        kinds.setdefault((len(paths[number]) - shared[number], len(paths[number])), []).append(number)
    for (new, length), members in kinds.items():
        yield Group(first[members[0]], new, length, tuple(node for number in members for node in paths[number]))


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens both begin with."""
    for place, (left, right) in enumerate(zip(a, b)):
        if left != right:
            return place
    return min(len(a), len(b))
