"""Comparing files: how alike their changes are, where they meet, how large they are, and which strengths suit a stack.

All of it is computed on the thin factors, in fp64. What chance gives is said beside each number: two changes that have
nothing to do with one another are orthogonal in a space of millions of dimensions, and half of their signs differ.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...kinds.adapters import LoRAError
from ...models.blocks import block_of, count_by_block
from ...models.places import Place
from ..algebra import Spectrum, gram, spectrum_of
from ..gathering import Gathered, WeightOf, strengths_of, thins_at
from ..steps import OnStep, no_step

DUPLICATE, NEAR_COPY, ALIKE, TOUCHING = 1e-3, 0.9, 0.3, 0.05
_SHARES = (0.5, 0.9, 0.99)


@dataclass
class Meeting:
    """What two files do to the same weights: sums over some of them.

    product: of the inner products; norms: of the squared norms of each where both change the weight. outputs, inputs:
    the overlap of the directions that they write to and read from, weighted by their sizes, and `of_chance` those that
    strangers of their ranks have. weight: the sum of these weightings.
    """

    product: float = 0.0
    norms: list[float] = field(default_factory=lambda: [0.0, 0.0])
    outputs: float = 0.0
    outputs_of_chance: float = 0.0
    inputs: float = 0.0
    inputs_of_chance: float = 0.0
    weight: float = 0.0
    layers: int = 0
    numbers: int = 0

    @property
    def cosine(self) -> float | None:
        """-1 to 1; None where one of them changes nothing there."""
        size = math.sqrt(self.norms[0] * self.norms[1])
        return max(-1.0, min(1.0, self.product / size)) if size else None

    @property
    def chance(self) -> float:
        """How far from 0 the cosine of two strangers typically is: 1 / sqrt(numbers)."""
        return 1 / math.sqrt(self.numbers) if self.numbers else 0.0

    def mean(self, name: str) -> float | None:
        return getattr(self, name) / self.weight if self.weight else None

    def take(self, other: "Meeting") -> None:
        """Add what another meeting has seen."""
        for name in vars(self):
            own = getattr(self, name)
            theirs = getattr(other, name)
            setattr(self, name, [a + b for a, b in zip(own, theirs)] if isinstance(own, list) else own + theirs)


@dataclass
class Portrait:
    """One file at strength 1: squared norms in all and by block, and how its energy is spread over its directions.

    ranks: of each weight. needed: for each share of the energy the number of directions that hold it, of each weight.
    curve: the mean share of the energy of the first, second, ... direction. base: the squared norm of the weights that
    it changes, where a model is connected.
    """

    squares: float = 0.0
    blocks: dict[str, float] = field(default_factory=dict)
    ranks: list[int] = field(default_factory=list)
    needed: dict[float, list[int]] = field(default_factory=lambda: {share: [] for share in _SHARES})
    curve: list[float] = field(default_factory=list)
    base: float = 0.0

    @property
    def norm(self) -> float:
        return math.sqrt(self.squares)

    @property
    def relative(self) -> float | None:
        """The size of the change over that of the weights it touches; None without a model."""
        return math.sqrt(self.squares / self.base) if self.base else None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Files side by side.

    portraits: one for each file. pairs: (i, j) -> what they do in all, by block, and by weight. gram: inner products at
    strength 1 and `gram_at` at the files' strengths, [N, N], fp64.
    """

    gathered: Gathered
    portraits: tuple[Portrait, ...]
    pairs: dict[tuple[int, int], Meeting]
    blocks: dict[tuple[int, int], dict[str, Meeting]]
    weights: dict[tuple[int, int], dict[Place, Meeting]]
    gram: Tensor
    gram_at: Tensor


def compare(
    gathered: Gathered,
    *,
    weight_of: WeightOf | None = None,
    base_norm: Callable[[Place], float | None] | None = None,
    on_step: OnStep = no_step,
) -> Comparison:
    """Compare measures files weight by weight.

    Args:
        gathered: the files; their strengths count for `gram_at` alone.
        weight_of: gives a base weight, for what depends on it.
        base_norm: gives the norm of a base weight, where it is known.
        on_step: called after each weight with (done, all); may raise to stop.

    Raises:
        LoRAError: strengths by block that select nothing.
    """
    count = len(gathered.sources)
    strengths = strengths_of(gathered)
    portraits = tuple(Portrait() for _ in range(count))
    names = [(i, j) for i in range(count) for j in range(i + 1, count)]
    pairs = {pair: Meeting() for pair in names}
    blocks: dict[tuple[int, int], dict[str, Meeting]] = {pair: {} for pair in names}
    weights: dict[tuple[int, int], dict[Place, Meeting]] = {pair: {} for pair in names}
    total = torch.zeros(2, count, count, dtype=torch.float64, device="cpu")
    for done, place in enumerate(gathered.layers, 1):
        thins = thins_at(gathered, place, weight_of, torch.float64)
        present = [number for number, thin in enumerate(thins) if thin is not None]
        some = [thin for thin in thins if thin is not None]
        products, spectra = gram(some), [spectrum_of(thin) for thin in some]
        at = torch.tensor([strengths[n][place] for n in present], dtype=torch.float64, device="cpu")
        rows = torch.tensor(present, device="cpu")
        total[0, rows[:, None], rows] += products
        total[1, rows[:, None], rows] += products * at[:, None] * at
        size = base_norm(place) if base_norm is not None else None
        for own, number in enumerate(present):
            _draw(portraits[number], place, spectra[own], size)
        for a, first in enumerate(present):
            for b, second in enumerate(present[a + 1 :], a + 1):
                met = _meet(products, spectra, a, b)
                weights[first, second][place] = met
                pairs[first, second].take(met)
                blocks[first, second].setdefault(block_of(place), Meeting()).take(met)
        on_step(done, len(gathered.layers))
    order = count_by_block(gathered.layers)
    ordered = {pair: {name: found[name] for name in order if name in found} for pair, found in blocks.items()}
    for one in portraits:
        one.curve = [share / len(one.ranks) for share in one.curve] if one.ranks else []
    return Comparison(gathered, portraits, pairs, ordered, weights, total[0], total[1])


def _draw(portrait: Portrait, place: Place, spectrum: Spectrum, base: float | None) -> None:
    """Adds one weight to a file's portrait."""
    energy = spectrum.energy
    portrait.squares += energy
    block = block_of(place)
    portrait.blocks[block] = portrait.blocks.get(block, 0.0) + energy
    portrait.ranks.append(spectrum.effective_rank())
    if base:
        portrait.base += base * base
    if not energy:
        return
    shares = spectrum.s.square() / energy
    reached = shares.cumsum(0)
    for share, needed in portrait.needed.items():
        needed.append(int((reached < share - 1e-12).sum().item()) + 1)
    longer = len(shares) - len(portrait.curve)
    portrait.curve = [a + b for a, b in zip(portrait.curve + [0.0] * longer, [*shares.tolist(), *[0.0] * -longer])]


def _meet(products: Tensor, spectra: Sequence[Spectrum], a: int, b: int) -> Meeting:
    """Two changes of one weight."""
    one, two = spectra[a], spectra[b]
    ranks = one.effective_rank(), two.effective_rank()
    numbers = one.u.shape[0] * one.vt.shape[1]
    norms = [products[a, a].item(), products[b, b].item()]
    if not all(ranks):
        return Meeting(norms=norms, layers=1, numbers=numbers)
    size = math.sqrt(max(0.0, norms[0] * norms[1]))
    out = (one.u[:, : ranks[0]].mT @ two.u[:, : ranks[1]]).square().sum().item() / min(ranks)
    inside = (one.vt[: ranks[0]] @ two.vt[: ranks[1]].mT).square().sum().item() / min(ranks)
    widths = one.u.shape[0], one.vt.shape[1]
    chances = [min(1.0, max(ranks) / width) for width in widths]
    return Meeting(
        products[a, b].item(),
        norms,
        out * size,
        chances[0] * size,
        inside * size,
        chances[1] * size,
        size,
        1,
        numbers,
    )


def distance_of(comparison: Comparison, pair: tuple[int, int]) -> float:
    """|one - other| / the larger of their norms, over all weights that either changes: 0 for a duplicate."""
    i, j = pair
    own, other, both = comparison.gram[i, i].item(), comparison.gram[j, j].item(), comparison.gram[i, j].item()
    most = max(own, other)
    return math.sqrt(max(0.0, own + other - 2 * both) / most) if most else 0.0


def judge(comparison: Comparison, pair: tuple[int, int]) -> str:
    """What two files are to one another, in a word of `KINSHIP`."""
    met = comparison.pairs[pair]
    if not met.layers:
        return "apart"
    i, j = pair
    size = math.sqrt(comparison.gram[i, i].item() * comparison.gram[j, j].item())
    cosine = comparison.gram[i, j].item() / size if size else 0.0
    if distance_of(comparison, pair) < DUPLICATE:
        return "duplicate"
    if cosine > 1 - DUPLICATE**2:
        return "scaled"
    if cosine < -NEAR_COPY:
        return "opposite"
    if cosine > NEAR_COPY:
        return "near_copy"
    within = met.cosine or 0.0
    if within < -TOUCHING:
        return "opposed"
    return "alike" if within > ALIKE else "related" if within > TOUCHING else "unrelated"


@dataclass(frozen=True)
class Suggested:
    """Strengths for a stack: `factor` times the files' own, so that together they change the model as much as the
    strongest alone; `even` would have each change it equally much, and together no more than that.

    together, strongest: the norms of the stack at its strengths, and of the strongest file in it.
    """

    factor: float
    strengths: tuple[tuple[float, float], ...]
    even: tuple[float, ...]
    together: float
    strongest: float


def suggest(comparison: Comparison) -> Suggested:
    """Suggest gives energy-normalised strengths: g with g^2 s^T G s = max_i s_i^2 G_ii, of the Gram matrix G.

    Raises:
        LoRAError: the stack changes nothing: all strengths are 0, or the changes cancel each other out.
    """
    found, plain = comparison.gram_at, comparison.gram
    together, strongest = max(0.0, found.sum().item()), found.diagonal().max().item()
    if together <= 1e-12 * strongest or not strongest:
        raise LoRAError("nothing is left of the stack: its strengths are 0, or the changes cancel each other out")
    factor = math.sqrt(strongest / together)
    sources = comparison.gathered.sources
    strengths = tuple((one.strength_model * factor, one.strength_clip * factor) for one in sources)
    sizes = plain.diagonal().sqrt()
    signs = torch.tensor([math.copysign(1.0, one.strength_model or one.strength_clip) for one in sources]).double()
    equal = torch.where(sizes > 0, signs / sizes.clamp_min(1e-300), torch.zeros_like(sizes))
    joint = math.sqrt(max(0.0, (equal @ plain @ equal).item()))
    size = math.sqrt(strongest)
    even = tuple((equal * (size / joint)).tolist()) if joint > 1e-9 else tuple((equal * size).tolist())
    return Suggested(factor, strengths, even, math.sqrt(together), size)
