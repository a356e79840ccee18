"""Pictures of a LATENT chosen with everything that belongs to them, and nothing else changed."""

import pytest
import torch

from clip_vae_lora.vae_core.batches import batch_size, choose


class Nested:
    """What ComfyUI 0.33.0 has for latents of several parts (comfy/nested_tensor.py)."""

    def __init__(self, tensors):
        self.tensors, self.is_nested = list(tensors), True

    def unbind(self):
        return self.tensors

    def __getitem__(self, places):
        return Nested(tensor[places] for tensor in self.tensors)


@pytest.fixture(params=[(5, 4, 3, 2), (5, 16, 2, 3, 2)], ids=["picture", "video"])
def samples(request):
    return torch.arange(float(torch.tensor(request.param).prod())).reshape(request.param)


def test_the_samples_are_those_at_the_places_in_their_order(samples):
    before = samples.clone()
    found = choose({"samples": samples}, [3, 0, 3]).latent
    assert torch.equal(found["samples"], torch.stack([samples[3], samples[0], samples[3]]))
    found["samples"].zero_()
    assert torch.equal(samples, before)


def test_choosing_twice_is_choosing_the_chosen(samples):
    once = choose(choose({"samples": samples}, [4, 2, 1]).latent, [2, 0]).latent
    assert torch.equal(once["samples"], samples[[1, 4]]) and once["batch_index"] == [1, 4]


def test_every_picture_keeps_the_number_of_its_noise(samples):
    assert choose({"samples": samples}, [3, 0]).latent["batch_index"] == [3, 0]
    assert choose({"samples": samples, "batch_index": [9, 8, 7, 6, 5]}, [3, 0]).latent["batch_index"] == [6, 9]


@pytest.mark.parametrize("count, expected", [(5, [3, 0]), (1, None), (2, [1, 0]), (3, [0, 0])])
def test_masks_are_chosen_as_comfyui_repeats_them(samples, count, expected):
    masks = torch.arange(float(count)).reshape(count, 1, 1, 1).expand(count, 1, 6, 4)
    found = choose({"samples": samples, "noise_mask": masks}, [3, 0]).latent["noise_mask"]
    assert torch.equal(found, masks if expected is None else masks[expected])


def test_a_mask_without_a_batch_is_for_all_of_them(samples):
    mask = torch.rand(5, 8)  # 5 rows, not 5 masks
    assert choose({"samples": samples, "noise_mask": mask}, [1]).latent["noise_mask"] is mask


def test_other_entries_of_pictures_are_chosen_and_the_rest_passed_on(samples):
    latent = {
        "samples": samples,
        "depth": torch.arange(5),
        "size": [1, 2, 3, 4, 5],
        "type": "image",
        "ratio": 8,
        "shared": torch.zeros(3),
        "each": [{"n": n} for n in range(5)],
    }
    found = choose(latent, [2, 1])
    assert found.latent["depth"].tolist() == [2, 1] and found.latent["each"] == [{"n": 2}, {"n": 1}]
    assert all(found.latent[name] is latent[name] for name in ("size", "type", "ratio", "shared"))
    assert set(found.entries) == {"samples", "depth", "each", "batch_index"}
    assert set(found.whole) == {"size", "type", "ratio", "shared"}


def test_nested_latents_are_chosen_part_by_part():
    parts = [torch.rand(3, 4, 2, 8, 8), torch.rand(3, 8, 16)]
    masks = [torch.rand(3, 1, 2, 8, 8), torch.rand(1, 8, 16)]
    assert batch_size(Nested(parts)) == 3
    found = choose({"samples": Nested(parts), "noise_mask": Nested(masks)}, [2, 0]).latent
    for got, part in zip(found["samples"].unbind(), parts):
        assert torch.equal(got, part[[2, 0]])
    assert torch.equal(found["noise_mask"].unbind()[0], masks[0][[2, 0]])
    assert torch.equal(found["noise_mask"].unbind()[1], masks[1])


@pytest.mark.parametrize(
    "places, says", [([], "no indices"), ([5], "the picture at 5, but this batch has 5"), ([-1], "the picture at -1")]
)
def test_places_that_are_not_there_are_refused(samples, places, says):
    with pytest.raises(ValueError, match=says):
        choose({"samples": samples}, places)


def test_too_few_noise_numbers_are_refused(samples):
    with pytest.raises(ValueError, match="5 pictures and 2 entries"):
        choose({"samples": samples, "batch_index": [0, 1]}, [0])
