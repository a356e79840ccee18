"""The table of kinds: what every row and every adapter holds, and a kind of this test's own that needs one row only."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from clip_vae_lora.lora.formats.read import read, write
from clip_vae_lora.lora.kinds.adapters import (
    Adapter,
    LoRA,
    LoRAError,
    fitting_shape,
    on_device,
    put_together,
    shape_mismatch,
    take_apart,
)
from clip_vae_lora.lora.kinds.hadamard import LoHa
from clip_vae_lora.lora.kinds.kronecker import LoKr
from clip_vae_lora.lora.kinds.magnitude import IA3, DoRA, GLoRA
from clip_vae_lora.lora.kinds.orthogonal import OFT, InputOFT
from clip_vae_lora.lora.kinds.table import KINDS, Kind, row_of
from clip_vae_lora.lora.kinds.whole import Difference, Replacement
from clip_vae_lora.lora.kinds.widening import Widening
from clip_vae_lora.lora.models.conversion import rename
from clip_vae_lora.lora.models.match import match
from clip_vae_lora.lora.models.names import spellings
from clip_vae_lora.lora.models.rows import Swapped
from clip_vae_lora.lora.weights.fusing import Change, apply
from clip_vae_lora.lora.weights.low_rank import change_norm
from clip_vae_lora.lora.weights.measuring import change_sizes


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LORA = LoRA(random(8, 2), random(2, 6), 1.0)
EVERY = [
    LORA,
    LoHa(random(8, 2), random(2, 6), random(8, 2), random(2, 6), 1.0),
    LoKr(1.0, w1=random(2, 2), w2=random(4, 3)),
    GLoRA(random(6, 2), random(2, 6), random(8, 2), random(2, 6), 1.0),
    OFT(random(2, 4, 4)),
    InputOFT(random(3, 1)),
    IA3(random(8), False),
    Difference(random(8, 6)),
    Replacement(random(8, 6)),
    DoRA(LORA, random(8, 1)),
    Widening(LORA, (8, 6)),
    Swapped(IA3(random(8), False)),
]
MEMBERS = [name for name in vars(Adapter) if not name.startswith("_")]


def test_every_class_of_the_table_is_tried_here():
    assert {kind.adapter for kind in KINDS.values()} <= {type(adapter) for adapter in EVERY}


@pytest.mark.parametrize("adapter", EVERY, ids=lambda adapter: type(adapter).__name__)
def test_every_adapter_has_what_the_protocol_asks_for(adapter):
    assert MEMBERS == ["kind", "rank", "alpha", "needs_weight", "extent", "misfit", "delta"]
    assert isinstance(adapter.kind, str) and isinstance(adapter.rank, int) and isinstance(adapter.needs_weight, bool)
    assert adapter.alpha is None or isinstance(adapter.alpha, float)
    out, inner = adapter.extent
    assert out in (8, None) and inner in (6, None)
    assert adapter.misfit((8, 6)) is None and isinstance(adapter.misfit((5, 7)), str)
    for name in ("misfit", "delta"):
        asked, given = (inspect.signature(getattr(one, name)).parameters for one in (Adapter, type(adapter)))
        assert [(p.name, p.kind, p.default) for p in given.values()] == [
            (p.name, p.kind, p.default) for p in asked.values()
        ]
    assert adapter.delta(torch.ones(8, 6)).shape == (8, 6)


def test_no_two_kinds_have_a_suffix_or_a_role_in_common():
    suffixes = [suffix for kind in KINDS.values() for suffix in (*kind.parts, kind.bias) if suffix]
    roles = [role for kind in KINDS.values() for role in kind.fields]
    assert len(set(suffixes)) == len(suffixes) and len(set(roles)) == len(roles)


@pytest.mark.parametrize("name", KINDS)
def test_a_row_names_fields_that_its_class_has(name):
    kind = KINDS[name]
    own = {one.name for one in fields(kind.adapter)}
    assert {*kind.parts.values(), *kind.numbers} <= own
    assert set(kind.roles) <= set(kind.parts)
    assert not kind.scaled or kind.has_alpha


@dataclass(frozen=True, eq=False)
class Outer:
    """The weight changes by alpha times the outer product of a number for each row and one for each column."""

    rows: Tensor  # [out]
    columns: Tensor  # [in]
    alpha: float
    kind: ClassVar[str] = "outer product"
    rank: ClassVar[int] = 1
    needs_weight: ClassVar[bool] = False

    @property
    def extent(self) -> tuple[int, int]:
        return len(self.rows), len(self.columns)

    def misfit(self, shape: Sequence[int]) -> str | None:
        return None if tuple(shape) == self.extent else shape_mismatch(self.extent, shape)

    def delta(self, weight, strength=1.0, *, match_comfyui=False) -> Tensor:
        shape = fitting_shape(self, weight)
        return (torch.outer(self.rows.float(), self.columns.float()) * (self.alpha * strength)).reshape(shape)


@pytest.fixture
def outer(monkeypatch):
    """KINDS with a row for it."""
    row = Kind(
        Outer,
        {"outer_rows": "rows", "outer_columns.weight": "columns"},
        scaled=True,
        algorithm="outer",
        size=lambda adapter: (adapter.rows, adapter.columns, adapter.alpha),
    )
    monkeypatch.setitem(KINDS, "outer product", row)
    return row


MODULE, KEY = "lora_unet_input_blocks_1_1_proj_in", "diffusion_model.input_blocks.1.1.proj_in.weight"


def outer_file() -> dict[str, Tensor]:
    return {
        f"{MODULE}.outer_rows": random(8),
        f"{MODULE}.outer_columns.weight": random(6, seed=1),
        f"{MODULE}.alpha": torch.tensor(0.5),
    }


def test_without_its_row_a_kind_is_not_read():
    with pytest.raises(LoRAError, match="no LoRA tensors here"):
        read({name: tensor for name, tensor in outer_file().items() if "outer" in name})


def test_a_new_kind_is_read_placed_applied_measured_and_written_by_its_row_alone(outer):
    tensors = outer_file()
    file = read(tensors)
    adapter = file.adapters[MODULE]
    assert type(adapter) is Outer and not file.unread and file.kinds == {"outer product": 1}
    weight = random(8, 6, seed=2)
    found = match(file, {KEY: (8, 6)}).found
    change = 0.5 * torch.outer(tensors[f"{MODULE}.outer_rows"], tensors[f"{MODULE}.outer_columns.weight"])
    torch.testing.assert_close(apply(weight, [Change(found[KEY], 2.0)]), weight + 2 * change)
    assert change_norm(adapter) == pytest.approx(float(change.norm()), rel=1e-6)  # fp32 in another order
    written, header = write({MODULE: adapter}, "kohya")
    assert written.keys() == tensors.keys() and all(torch.equal(written[name], tensors[name]) for name in written)
    assert '"outer"' in header["ss_network_args"] and header["ss_network_alpha"] == "0.5"
    with pytest.raises(LoRAError, match="is outer product, which diffusers files cannot hold"):
        write({MODULE: adapter}, "diffusers")


def test_a_new_kind_is_renamed_moved_and_sized_by_its_row_alone(outer):
    tensors = outer_file()
    adapter = read(tensors).adapters[MODULE]
    assert change_sizes([adapter])[0].squares == pytest.approx(float(adapter.delta((8, 6)).norm()) ** 2, rel=1e-6)
    renamed = rename({KEY: adapter}, {KEY: (8, 6)}, "lycoris")
    assert renamed.named == {spellings([KEY], "lycoris")[KEY]: adapter} and not renamed.unnamed
    again = put_together(take_apart(DoRA(adapter, random(8, 1))))  # how ComfyUI moves the tensors of a patch
    assert type(again.inner) is Outer and again.inner.alpha == 0.5 and again.inner.rows is adapter.rows
    assert on_device(adapter, "cpu") is adapter
    weight = torch.zeros(8, 6)
    assert torch.equal(apply(weight, [Change(adapter, 1.0)]), adapter.delta((8, 6)))


def test_a_kind_that_was_unread_is_read_once_it_has_a_row(monkeypatch):
    tensors = {"base_model.model.q.vera_rows.mine": random(8), "base_model.model.q.vera_columns.mine": random(6)}
    assert "VeRA: this kind is not read" in read(tensors).unread.values()
    row = Kind(
        Outer,
        {"vera_rows": "rows", "vera_columns": "columns"},
        scaled=True,
        dialect="diffusers",
        by_peft=True,
    )
    monkeypatch.setitem(KINDS, "outer product", row)
    file = read(tensors)
    assert file.kinds == {"outer product": 1} and not file.unread and file.dialect == "peft"


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"outer_rows": None}, "it has alpha and outer_columns but no outer_rows"),
        ({"hada_w1_a": torch.ones(8, 2)}, "it has parts of two kinds, LoHa and outer product"),
        ({"outer_rows": torch.full((8,), torch.nan)}, "its outer_rows: it holds NaN or infinity"),
        ({"outer_more": torch.ones(2)}, "it has .*outer_more, which would be ignored"),
    ],
)
def test_what_is_wrong_with_a_new_kind_is_said_as_of_any_other(outer, change, reason):
    tensors = outer_file() | {f"{MODULE}.{suffix}": tensor for suffix, tensor in change.items()}
    with pytest.raises(LoRAError, match=reason):
        raise LoRAError(read({name: tensor for name, tensor in tensors.items() if tensor is not None}).unread[MODULE])


def test_a_new_kind_may_have_a_magnitude_where_it_has_a_scale(outer):
    file = read(outer_file() | {f"{MODULE}.dora_scale": random(8, 1).abs() + 1})
    adapter = file.adapters[MODULE]
    assert adapter.kind == "DoRA of outer product" and row_of(adapter) is None and row_of(adapter.inner) is outer
    assert write({MODULE: adapter}, "kohya")[0].keys() >= {f"{MODULE}.dora_scale", f"{MODULE}.outer_rows"}
