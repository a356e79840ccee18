"""Plans whose optimiser's memory is shared out among processes."""

from clip_vae_lora.training.clip.presets import plan_of

from ..clip.test_run import SHORT

PLANS = {
    "AdamW": plan_of("from-scratch-small", SHORT | {"sharded": True, "clip_norm": 0.5}),
    "Adafactor": plan_of("none", SHORT | {"sharded": True, "optimiser": "Adafactor"}),
}
