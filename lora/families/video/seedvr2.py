"""SeedVR 2, which enlarges videos. Source: ByteDance's nadit.py."""

from ..family import Family

_SIDES = ("vid", "txt", "all")
SEEDVR2 = Family(
    "SeedVR 2",
    has=("vid_in.proj", "vid_out.proj"),
    same=True,
    stacks=(),
    others=(
        *(f"blocks.#.attn.{layer}.{side}" for layer in ("proj_qkv", "proj_out") for side in _SIDES),
        *(f"blocks.#.mlp.{side}.{layer}" for side in _SIDES for layer in ("proj_in", "proj_in_gate", "proj_out")),
        *("vid_in.proj", "vid_out.proj", "txt_in", "emb_in.proj_in", "emb_in.proj_hid", "emb_in.proj_out"),
    ),
)
