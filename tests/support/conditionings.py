"""CONDITIONINGs for tests: small, seeded, and compared to the last bit."""

import torch

from clip_vae_lora.clip_core.encoding.conditioning import same_bits


def entry(tokens: int = 77, *, seed: int = 0, width: int = 8, **options) -> list:
    """Tokens [1, tokens, width], a pooled vector [1, 5], and further options."""
    generator = torch.Generator().manual_seed(seed)
    hidden, pooled = torch.randn(1, tokens, width, generator=generator), torch.randn(1, 5, generator=generator)
    return [hidden, {"pooled_output": pooled, **options}]


def copied(conditioning: list) -> list:
    return [[hidden.clone(), dict(options)] for hidden, options in conditioning]


def assert_equal(first, second):
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert same_bits(first, second)
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for key, value in first.items():
            assert_equal(value, second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second):
            assert_equal(one, other)
    else:
        assert first == second and str(first) == str(second)
