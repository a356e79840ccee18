"""Pictures of a VAE's training: what is read, what is not and why, and which parts a step sees."""

from pathlib import Path

import pytest
import torch
from torch import Generator

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.images import write_png
from clip_vae_lora.training.loop import TrainingError
from clip_vae_lora.training.vae import pictures
from clip_vae_lora.training.vae.pictures import (
    Crops,
    draw_crops,
    gather_folder,
    gather_image,
    large_enough,
    split,
)

from ...support.vaes.learning import picture, smooth


def _write(folder: Path, *names: str, side: int = 24) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_png(folder / name, smooth(side, side, number).float() / 255, {})


def test_every_file_that_is_not_used_is_named(tmp_path: Path):
    _write(tmp_path, "a.png", "b.png", "0_off/c.png", "3_often/d.png", "a-masklabel.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "notes.doc").write_text("no picture")
    (tmp_path / "a.txt").write_text("a caption")
    found = gather_folder(tmp_path)
    assert [one.name for one in found.pictures] == ["3_often/d.png", "a.png", "b.png"]
    assert [one.repeats for one in found.pictures] == [3, 1, 1]
    assert set(found.unused) == {"broken.png", "notes.doc", "0_off/c.png", "a-masklabel.png"}
    assert "cut short" in found.unused["broken.png"] or "picture" in found.unused["broken.png"]


def test_a_folder_without_pictures_and_one_of_broken_ones_are_refused(tmp_path: Path):
    with pytest.raises(FileFormatError, match="pictures were expected"):
        gather_folder(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(TrainingError, match=r"none of the pictures in .* can be used \(broken.png: "):
        gather_folder(tmp_path)
    with pytest.raises(FileFormatError, match="there is none"):
        gather_folder(tmp_path / "nowhere")


def test_pictures_are_read_again_where_memory_is_short_and_are_the_same(tmp_path: Path, monkeypatch):
    _write(tmp_path, "a.png", "b.png")
    whole = [one.whole(3) for one in gather_folder(tmp_path).pictures]
    monkeypatch.setattr(pictures, "_ROOM_BYTES", 24 * 24 * 3)
    again = gather_folder(tmp_path)
    assert all(torch.equal(one.whole(3), before) for one, before in zip(again.pictures, whole))
    _write(tmp_path, "b.png", side=32)
    with pytest.raises(TrainingError, match="b.png has changed since the training began"):
        again.pictures[1].whole(3)


def test_transparency_is_laid_over_white_and_said(tmp_path: Path):
    from PIL import Image

    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    found = gather_folder(tmp_path)
    assert list(found.flattened) == ["clear.png"] and bool((found.pictures[0].whole(3) == 1).all())


def test_the_pictures_of_an_image_are_copies_and_have_the_channels_that_a_vae_wants():
    image = torch.rand(2, 20, 24, 4)
    found = gather_image(image)
    before = image.clone()
    image.zero_()
    one = found.pictures[1]
    assert [picture.name for picture in found.pictures] == ["image 1", "image 2"] and one.size == (20, 24)
    assert torch.equal(one.whole(3)[0], before[1, :, :, :3]) and torch.equal(one.whole(4)[0], before[1])
    assert torch.allclose(one.whole(1)[0], before[1, :, :, :3].mean(-1, keepdim=True))
    opaque = gather_image(before[..., :3]).pictures[0].whole(4)
    assert bool((opaque[..., 3] == 1).all())


def test_pictures_smaller_than_the_crop_are_named_or_refused_when_none_is_left():
    some = [picture("large.png", smooth(40, 60, 0)), picture("low.png", smooth(20, 60, 1))]
    found = large_enough(pictures.Gathered(some), 32)
    assert [one.name for one in found.pictures] == ["large.png"]
    assert found.unused == {"low.png": "60 x 20 px, smaller than the crop of 32 px"}
    with pytest.raises(TrainingError, match="the largest has room for 40 px: set a smaller crop"):
        large_enough(pictures.Gathered(some), 64)


def test_a_crop_is_a_part_of_its_picture_and_depends_on_the_generator_alone():
    pixels = torch.arange(30 * 40, dtype=torch.float32).view(30, 40, 1).expand(-1, -1, 3) / 1200
    one, crops = picture("p", pixels), Crops(16, mirror=False)
    seen = set()
    for seed in range(40):
        part = crops.of(one, 3, Generator().manual_seed(seed))
        first = round(float(part[0, 0, 0]) * 1200)
        top, left = divmod(first, 40)
        assert torch.equal(part, pixels[top : top + 16, left : left + 16].movedim(-1, 0))
        assert torch.equal(part, crops.of(one, 3, Generator().manual_seed(seed)))
        seen.add((top, left))
    assert len(seen) > 30
    assert max(top for top, _ in seen) <= 14 and max(left for _, left in seen) <= 24


def test_half_of_the_crops_are_mirrored_and_shrunk_ones_reach_the_whole_picture():
    ramp = torch.linspace(0, 1, 32)[None, :, None].expand(32, 32, 3)
    one = picture("ramp", ramp)
    parts = [Crops(16).of(one, 3, Generator().manual_seed(seed)) for seed in range(200)]
    falling = sum(bool(part[0, 0, 0] > part[0, 0, -1]) for part in parts)
    assert 70 < falling < 130  # 200 draws of one half: six deviations to either side
    wide = [Crops(16, 8.0, mirror=False).of(one, 3, Generator().manual_seed(seed)) for seed in range(60)]
    spans = [float(part[0, 8, -1] - part[0, 8, 0]) for part in wide]
    assert min(spans) < 0.55 and max(spans) > 0.9 and all(part.shape == (3, 16, 16) for part in wide)


def test_a_picture_that_counts_more_is_seen_more_often():
    black, white = torch.zeros(16, 16, 3), torch.ones(16, 16, 3)
    some = [picture("black", black), picture("white", white, repeats=3)]
    drawn = draw_crops(some, 400, Crops(16), 3, Generator().manual_seed(0))
    assert drawn.shape == (400, 3, 16, 16) and 260 < int((drawn[:, 0, 0, 0] == 1).sum()) < 340  # 300, deviation 8.7


def test_held_out_pictures_are_chosen_by_the_seed_and_one_stays():
    some = [picture(f"p{number}", smooth(16, 16, number)) for number in range(10)]
    out, rest = split(some, 0.2, 0)
    assert len(out) == 2 and {one.name for one in (*out, *rest)} == {one.name for one in some}
    assert split(some, 0.2, 0)[0] == out and any(split(some, 0.2, seed)[0] != out for seed in range(1, 5))
    assert split(some[:2], 0.5, 0) == ([], some[:2]) and split(some, 0.0, 0) == ([], some)
    assert len(split(some[:3], 0.01, 0)[0]) == 1 and len(split(some, 0.99, 0)[1]) == 1


def test_equal_pictures_are_never_on_both_sides():
    pixels = [smooth(16, 16, number % 4) for number in range(12)]
    some = [picture(f"p{number}", one) for number, one in enumerate(pixels)]
    for seed in range(6):
        out, rest = split(some, 0.3, seed)
        assert out and rest and not {one.digest for one in out} & {one.digest for one in rest}
