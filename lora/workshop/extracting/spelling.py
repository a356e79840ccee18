"""A file in a dialect, one adapter at a time: nothing is kept of an adapter but what the header says of it."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ...formats.dialects import DIALECTS, STORED
from ...formats.writing import header_of, write
from ...kinds.adapters import Adapter, LoRAError, on_device
from ...models.conversion import Renamer
from ...models.places import Place
from ..sizing import Spell

Put = Callable[[str, Tensor], None]


class Piecewise:
    """Spells the adapters of one model in one dialect as they come.

    shapes: the keys and shapes of the model. put: takes each tensor of the file by its name.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], dialect: str, put: Put) -> None:
        if dialect not in DIALECTS:
            raise LoRAError(f"the dialect is {dialect!r}: expected one of {', '.join(DIALECTS)}")
        self.dialect = dialect
        self._renamer, self._put = Renamer(shapes, dialect), put
        self._written: dict[str, Adapter] = {}

    def take(self, key: str, adapter: Adapter) -> str:
        """Write the adapter of a weight; "" where it was written, else why the dialect cannot hold it."""
        renamed = self._renamer.rename({key: adapter})
        if renamed.unnamed:
            return next(iter(renamed.unnamed.values()))
        try:
            tensors, _ = write(renamed.named, self.dialect)
        except LoRAError:
            kind = adapter.kind
            return f"{kind}, which {self.dialect} files cannot hold"
        for name, tensor in tensors.items():
            self._put(name, tensor)
        self._written |= {name: on_device(own, "meta") for name, own in renamed.named.items()}
        return ""

    def header(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """The header of the file, with these texts."""
        return header_of(self._written, self.dialect, metadata)


def spell_of(shapes: Mapping[str, Sequence[int]], dialect: str, metadata: Mapping[str, str]) -> Spell:
    """A function that gives the tensors and the header of the file of some adapters of a model."""
    renamer = Renamer(shapes, dialect)

    def spell(adapters: Mapping[Place, Adapter]) -> tuple[dict[str, Tensor], dict[str, str]]:
        kept = {
            name: own
            for name, own in renamer.rename(adapters).named.items()
            if DIALECTS[dialect].alpha == STORED or own.rank
        }
        return write(kept, dialect, metadata)

    return spell
