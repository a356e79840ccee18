"""Facts, pictures and captions say the same thing, and nothing held out gets into training."""

import pytest
import torch

from clip_vae_lora.training.scenes.captions import fits, place, plural, write_captions
from clip_vae_lora.training.scenes.drawing import draw, without_colour
from clip_vae_lora.training.scenes.scene import (
    BACKGROUNDS,
    COLOURS,
    COLUMNS,
    COUNTS,
    FACTS,
    HELD_OUT,
    PAIRS,
    ROWS,
    SHAPES,
    SIZES,
    TEXTURES,
    TRAINED,
    Scenes,
    random_scenes,
)
from clip_vae_lora.training.scenes.shapes import DISTANCES
from clip_vae_lora.training.scenes.textures import KINDS, mixed_pictures


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pairs(scenes: Scenes) -> set[tuple[int, int]]:
    return set(zip(scenes.shape.tolist(), scenes.colour.tolist()))


def _one(**facts: int) -> Scenes:
    """A single scene; facts not given are 0 (a small red circle at the top left on black)."""
    return Scenes(**{name: torch.tensor([facts.get(name, 0)]) for name in FACTS})


def test_held_out_pairs_never_occur_in_training_and_all_others_do():
    seen = _pairs(random_scenes(5000, _generator(0)))
    assert not seen & set(HELD_OUT)
    assert seen == set(TRAINED)
    assert sorted(TRAINED + HELD_OUT) == sorted(PAIRS)


def test_every_shape_and_every_colour_is_trained_in_most_of_its_pairs():
    for shape in range(len(SHAPES)):
        assert sum(pair[0] == shape for pair in TRAINED) == len(COLOURS) - 1
    for colour in range(len(COLOURS)):
        assert sum(pair[1] == colour for pair in TRAINED) >= len(SHAPES) - 2


def test_held_out_captions_never_occur_in_training():
    scenes = random_scenes(3000, _generator(1))
    held = {(SHAPES[shape], tuple(COLOURS)[colour]) for shape, colour in HELD_OUT}
    for text in write_captions(scenes, _generator(2)).texts:
        words = {word.removesuffix("s") for word in text.split()} | set(text.split())
        words |= {word.removesuffix("es") for word in words}
        assert not any(shape in words and colour in words for shape, colour in held), text


def test_the_base_never_sees_or_reads_a_texture():
    scenes = random_scenes(3000, _generator(3))
    assert scenes.texture.eq(0).all()
    texts = " ".join(write_captions(scenes, _generator(4)).texts)
    assert not any(word in texts for word in TEXTURES)


def test_the_same_seed_draws_and_writes_the_same():
    def make() -> tuple[torch.Tensor, tuple[str, ...]]:
        generator = _generator(5)
        scenes = random_scenes(8, generator, PAIRS, (0, 1, 2))
        return draw(scenes, 32, generator), write_captions(scenes, generator, textures=True).texts

    (first, first_texts), (second, second_texts) = make(), make()
    assert torch.equal(first, second)
    assert first_texts == second_texts


def test_a_caption_says_exactly_the_facts_it_names():
    scenes = random_scenes(400, _generator(6), PAIRS, (0, 1, 2))
    captions = write_captions(scenes, _generator(7), textures=True)
    values = {"shape": SHAPES, "colour": tuple(COLOURS), "size": SIZES, "texture": TEXTURES}
    for text, facts, named in zip(captions.texts, scenes.table().tolist(), captions.named.tolist()):
        fact, says = dict(zip(FACTS, facts)), dict(zip(FACTS, named))
        before_background = text.split(" on a ")[0]
        words = set(before_background.split()) | {w.removesuffix("es") for w in before_background.split()}
        words |= {w.removesuffix("s") for w in before_background.split()}
        for name, options in values.items():
            found = {option for option in options if option in words}
            assert found == ({options[fact[name]]} if says[name] else set()), (text, name)
        assert (place(fact["row"], fact["column"]) in text) or not says["row"], text
        assert ("background" in text) == says["background"], text
        if says["background"]:
            assert tuple(BACKGROUNDS)[fact["background"]] in text
        if says["count"] and fact["count"]:
            assert COUNTS[fact["count"]] in words, text


def test_a_caption_fits_the_pictures_that_share_what_it_names():
    scenes = random_scenes(60, _generator(8))
    captions = write_captions(scenes, _generator(9))
    table = scenes.table()
    matrix = fits(captions, table, torch.ones_like(captions.named))
    assert matrix.diagonal().all()
    for i in range(60):
        for j in range(60):
            expected = all(table[i, k] == table[j, k] for k in range(len(FACTS)) if captions.named[j, k])
            assert bool(matrix[i, j]) == expected


def test_a_caption_that_names_a_colour_fits_no_grey_picture():
    scenes = random_scenes(60, _generator(8))
    grey = torch.arange(60) < 30
    captions = write_captions(scenes, _generator(9), colourless=grey)
    shown = torch.ones_like(captions.named)
    colour = FACTS.index("colour")
    shown[:, colour] = ~grey
    matrix = fits(captions, scenes.table(), shown)
    assert not captions.named[grey, colour].any()
    assert not any(word in text for text in captions.texts[:30] for word in COLOURS)
    assert matrix.diagonal().all()
    assert not matrix[grey][:, captions.named[:, colour]].any()


def test_a_grey_picture_has_no_colour_and_stays_in_range():
    pictures = draw(random_scenes(6, _generator(0)), 24, _generator(1))
    grey = without_colour(pictures, _generator(2))
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert (grey[:, 0] <= pictures.amax(dim=1) + 1e-6).all()
    assert (grey[:, 0] >= pictures.amin(dim=1) - 1e-6).all()


def test_a_zoomed_picture_is_a_part_of_the_whole():
    """On plain black, with one thing larger than the part: the part's red share is 0 to 1, its pixels the same hues."""
    scene = _one(shape=SHAPES.index("square"), size=2, column=1, row=1)
    parts = [(draw(scene, 32, _generator(seed), zoom=4.0)[0, 0] > 0.5).double().mean() for seed in range(12)]
    whole = (draw(scene, 32, _generator(0))[0, 0] > 0.5).double().mean()
    assert max(parts) == 1  # quite inside
    assert abs(float(sum(parts) / 12 - whole)) < 0.35  # parts lie anywhere: on average they are as full as the whole


def test_plurals_and_places_are_english():
    assert plural("cross") == "crosses"
    assert plural("moon") == "moons"
    assert place(ROWS.index("top"), COLUMNS.index("left")) == "at the top left"
    assert place(ROWS.index("middle"), COLUMNS.index("center")) == "in the center"


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_lies_around_the_origin_and_inside_the_unit_disc(name: str):
    line = torch.linspace(-1.5, 1.5, 301)
    y, x = torch.meshgrid(line, line, indexing="ij")
    inside = DISTANCES[name](x, y) < 0
    assert not (inside & (torch.hypot(x, y) > 1.15)).any()  # corners reach a little out of it
    assert 0.2 < inside.sum() * 0.01**2 / torch.pi < 0.85


@pytest.mark.parametrize("name", SHAPES)
def test_a_distance_is_smooth_enough_for_soft_edges(name: str):
    line = torch.linspace(-1.2, 1.2, 241)
    y, x = torch.meshgrid(line, line, indexing="ij")
    distance = DISTANCES[name](x, y)
    assert distance.diff(dim=0).abs().max() < 0.0105 * 1.1  # a distance changes by no more than the step, 0.01
    assert distance.diff(dim=1).abs().max() < 0.0105 * 1.1


@pytest.mark.parametrize("colour", range(len(COLOURS)))
def test_the_middle_of_a_centred_square_has_the_colour_of_the_fact(colour: int):
    scene = _one(shape=SHAPES.index("square"), colour=colour, size=2, column=1, row=1, background=1)
    middle = draw(scene, 64, _generator(colour))[0, :, 28:36, 28:36].mean(dim=(1, 2))
    distances = {name: float((middle - torch.tensor(rgb)).norm()) for name, rgb in COLOURS.items()}
    assert min(distances, key=distances.get) == tuple(COLOURS)[colour]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)])
def test_a_thing_lies_where_its_row_and_column_say(row: int, column: int):
    scene = _one(colour=0, background=0, row=row, column=column)
    red = draw(scene, 60, _generator(row * 3 + column))[0, 0] > 0.5
    y, x = torch.nonzero(red).double().mean(dim=0).div(20).long().tolist()
    assert (y, x) == (row, column)


@pytest.mark.parametrize("count", range(4))
def test_there_are_as_many_things_as_the_count_says(count: int):
    red = draw(_one(count=count), 64, _generator(count))[0, 0] > 0.5
    quadrants = [red[y : y + 32, x : x + 32].sum() > 20 for y in (0, 32) for x in (0, 32)]
    assert sum(quadrants) == (count + 1) if count else True


def test_stripes_are_in_the_picture_only_where_the_fact_says_so():
    facts = {"shape": SHAPES.index("square"), "size": 2, "column": 1, "row": 1, "background": 1}
    spread = {}
    for index, name in enumerate(TEXTURES):
        middle = draw(_one(texture=index, **facts), 64, _generator(0))[0, :, 24:40, 24:40]
        spread[name] = float(middle.std(dim=(1, 2)).max())
    assert spread["plain"] < 0.05 < 0.15 < min(spread["striped"], spread["dotted"])


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_is_in_range_and_varied(name: str):
    pictures = KINDS[name](4, 32, _generator(0))
    assert pictures.shape == (4, 3, 32, 32)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert not torch.equal(pictures[0], pictures[1])


def test_a_mixed_batch_has_as_many_pictures_as_asked_for():
    for count in (1, 7, 16):
        assert len(mixed_pictures(count, 16, _generator(0))) == count
