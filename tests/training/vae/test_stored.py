"""What a trained VAE's file holds: the encoder's numbers as they came, in a type that keeps them."""

import pytest
import torch

from clip_vae_lora.training.vae.parts import BOTH, DECODER, is_decoder
from clip_vae_lora.training.vae.stored import stored_state

from ...support.vaes import learning


def _learned(came: dict) -> dict:
    generator = torch.Generator().manual_seed(0)
    return {name: one.float() + torch.randn(one.shape, generator=generator) * 1e-3 for name, one in came.items()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_encoder_keeps_its_numbers_whatever_type_they_came_in(dtype):
    came = learning.state(dtype=dtype)
    for asked in ("auto", "fp32", "fp16", "bf16"):
        stored = stored_state(came, _learned(came), DECODER, asked)
        assert stored.same_encoder
        for name, tensor in stored.state.items():
            if not is_decoder(name):
                assert torch.equal(tensor.float(), came[name].float()), name


def test_auto_is_the_shortest_type_that_holds_what_came():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        held_in_fp32 = {name: one.float() for name, one in learning.state(dtype=dtype).items()}
        stored = stored_state(held_in_fp32, _learned(held_in_fp32), DECODER, "auto")
        assert {one.dtype for one in stored.state.values()} == {dtype}
    asked = stored_state(held_in_fp32, _learned(held_in_fp32), DECODER, "bf16").state
    assert {one.dtype for name, one in asked.items() if is_decoder(name)} == {torch.bfloat16}
    assert {one.dtype for name, one in asked.items() if not is_decoder(name)} == {torch.float32}


def test_a_number_too_large_for_the_type_keeps_its_tensor_in_fp32():
    came = learning.state()
    learned = _learned(came)
    learned["decoder.conv_in.weight"][0, 0, 0, 0] = 1e6
    state = stored_state(came, learned, DECODER, "fp16").state
    assert torch.equal(state["decoder.conv_in.weight"], learned["decoder.conv_in.weight"])
    assert state["decoder.conv_out.weight"].dtype == torch.float16


def test_an_encoder_that_learned_is_not_called_the_same():
    came = learning.state()
    stored = stored_state(came, _learned(came), BOTH, "auto")
    assert not stored.same_encoder and stored.state.keys() == came.keys()
    name = "encoder.conv_in.weight"
    assert torch.equal(stored.state[name], _learned(came)[name].half())


def test_statistics_and_counts_of_the_latent_stay_as_they_are():
    came = {"bn.running_var": torch.tensor([0.1]), "bn.num_batches_tracked": torch.tensor(7), **learning.state()}
    stored = stored_state(came, _learned(came), BOTH, "fp16")
    assert torch.equal(stored.state["bn.running_var"], came["bn.running_var"])
    assert stored.state["bn.num_batches_tracked"].dtype == torch.int64 and stored.state["bn.num_batches_tracked"] == 7
