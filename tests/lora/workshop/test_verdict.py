"""The verdict on a merged file, and the two real LoRAs of cloneofsimo: merged, compared, and back."""

import json

import pytest
import safetensors.torch
import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.formats.writing import write
from clip_vae_lora.lora.models.match import match
from clip_vae_lora.lora.workshop.comparing.compare import compare, judge
from clip_vae_lora.lora.workshop.gathering import gather
from clip_vae_lora.lora.workshop.merging.merge import merge
from clip_vae_lora.lora.workshop.merging.methods import Recipe
from clip_vae_lora.lora.workshop.merging.verdict import against_stack
from clip_vae_lora.lora.workshop.naming import named
from clip_vae_lora.lora.workshop.ranks import RANK, Rule
from clip_vae_lora.lora.workshop.sources import Source

from ...support.loras.shop import PLACES, SD1, TEXT, dense, plain, relative

SOURCES = [plain(4, 0, strength_model=0.7), plain(3, 9, "peft", strength_model=-0.4, strength_clip=0.2)]


def file_of(merged, dialect="kohya"):
    adapters, unnamed = named(merged.gathered, merged.adapters, dialect)
    tensors, header = write(adapters, dialect)
    return read(tensors, header), unnamed


@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft"])
def test_an_exact_file_equals_its_stack(dialect):
    gathered = gather(SOURCES)
    found = against_stack(gathered, file_of(merge(gathered), dialect)[0])
    assert found.total < 1e-6 and found.worst < 1e-6 and not found.missing and found.weights == len(PLACES)


def test_a_cut_file_is_as_far_from_its_stack_as_the_dense_changes_say():
    gathered = gather(SOURCES)
    merged = merge(gathered, rule=Rule(RANK, 3))
    file, _ = file_of(merged)
    found = against_stack(gathered, file)
    own, stack = dense(Source("m", file, {})), [dense(source) for source in SOURCES]
    stack = {key: stack[0][key] + stack[1][key] for key in own}
    lost = {key: relative(own[key], change) for key, change in stack.items()}
    assert found.worst == pytest.approx(max(lost.values()), rel=1e-6)
    assert lost[found.place] == max(lost.values())
    assert found.total == pytest.approx(merged.from_stack, rel=1e-6) == pytest.approx(merged.error, rel=1e-6)


def test_a_weight_that_the_dialect_has_no_name_for_is_missing():
    gathered = gather(SOURCES)
    file, unnamed = file_of(merge(gathered), "lycoris")
    found = against_stack(gathered, file)
    assert found.missing == (TEXT,) == tuple(unnamed) and found.worst == pytest.approx(1)


def test_a_method_that_is_no_sum_says_how_far_it_is_from_the_stack():
    merged = merge(gather(SOURCES), Recipe("dare", density=0.5))
    assert merged.error < 1e-6 and merged.from_stack > 0.3


def source(path, **more):
    with safetensors.safe_open(path, "pt") as handle:
        metadata, tensors = handle.metadata(), {name: handle.get_tensor(name) for name in handle.keys()}
    return Source(path.name, read(tensors, metadata), metadata, **more)


@pytest.fixture(scope="module")
def disney(shared_data):
    return source(shared_data / "lora" / "lora_disney.safetensors", strength_model=0.8)


@pytest.fixture(scope="module")
def analog(shared_data):
    return source(shared_data / "lora" / "analog_svd_rank4.safetensors", strength_model=-0.5, strength_clip=0.5)


def reference(*sources):
    """The sum of both files in fp64, from their tensors and nothing else: up @ down of each number, at its strength."""
    total = {}
    for one in sources:
        for place, adapter in match(one.file, SD1).found.items():
            of_model = place.startswith("diffusion_model.")
            change = adapter.up.double().flatten(1) @ adapter.down.double().flatten(1) * adapter.scale
            total[place] = total.get(place, 0) + change * (one.strength_model if of_model else one.strength_clip)
    return total


@pytest.fixture(scope="module")
def merged(disney, analog):
    """Both in one, and their sum as the reference has it."""
    return merge(gather([disney, analog]), dtype=torch.float32), reference(disney, analog)


@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "cloneofsimo"])
def test_the_two_real_loras_merge_to_their_sum_in_fp64(merged, dialect):
    both, expected = merged
    file, unnamed = file_of(both, dialect)
    assert not unnamed and len(file.adapters) == len(expected) == len(both.layers)
    for place, adapter in list(match(file, SD1).found.items())[:: 1 if dialect == "kohya" else 5]:
        assert relative(adapter.delta(SD1[place]).flatten(1), expected[place]) < 2e-6, place
    assert against_stack(both.gathered, file).total < 1e-6


def test_the_two_real_loras_are_strangers_and_a_merge_of_them_holds_both(disney, analog):
    found = compare(gather([disney, analog]))
    met = found.pairs[0, 1]
    a, b = reference(Source("a", disney.file, {})), reference(Source("b", analog.file, {}))
    inner = sum((a[key] * b[key]).sum().item() for key in a.keys() & b.keys())
    assert found.gram[0, 1].item() == pytest.approx(inner, rel=1e-9)
    assert met.layers == len(a.keys() & b.keys()) and judge(found, (0, 1)) == "unrelated"
    for key, one in found.weights[0, 1].items():
        expected = (a[key] * b[key]).sum() / (a[key].norm() * b[key].norm())
        assert one.cosine == pytest.approx(expected.item(), abs=1e-9) and abs(one.cosine) < 0.02
    assert found.portraits[0].ranks.count(1) == len(found.portraits[0].ranks)
    assert set(found.portraits[1].ranks) == {4}


def test_the_header_of_a_real_file_is_kept_as_text(disney):
    assert json.loads(disney.metadata["unet"])
