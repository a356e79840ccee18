"""The families of diffusion models that are known. A new one is a file in a room here and a word in this table."""

from collections.abc import Collection

from .audio.ace_step import ACE_STEP, ACE_STEP_15
from .audio.stable_audio import STABLE_AUDIO
from .family import Family
from .joint.auraflow import AURAFLOW
from .joint.flux import CHROMA, FLUX, HUNYUAN_3D
from .joint.flux2 import FLUX2
from .joint.hidream import HIDREAM
from .joint.joy_image import JOY_IMAGE
from .joint.lens import LENS
from .joint.qwen_image import QWEN_IMAGE
from .joint.sd3 import SD3
from .single.boogu import BOOGU
from .single.ernie import ERNIE
from .single.hunyuan3d import HUNYUAN_3D_21
from .single.hunyuan_dit import HUNYUAN_DIT
from .single.ideogram4 import IDEOGRAM4
from .single.krea2 import KREA2
from .single.omnigen2 import OMNIGEN2
from .single.pixart import PIXART
from .single.pixeldit import PIXELDIT
from .single.stable_cascade import STABLE_CASCADE_B, STABLE_CASCADE_C
from .single.triposplat import TRIPOSPLAT
from .single.z_image import LUMINA2, Z_IMAGE
from .video.cogvideox import COGVIDEOX
from .video.cosmos import ANIMA, COSMOS, COSMOS_1
from .video.hunyuan import HUNYUAN_IMAGE, HUNYUAN_VIDEO, HUNYUAN_VIDEO_15
from .video.kandinsky5 import KANDINSKY5
from .video.ltx import LTX2, LTXV
from .video.minimax_h3 import MINIMAX_H3
from .video.mochi import MOCHI
from .video.seedvr2 import SEEDVR2
from .video.wan import WAN

FAMILIES: tuple[Family, ...] = (
    *(FLUX, FLUX2, CHROMA, SD3, QWEN_IMAGE, AURAFLOW, HIDREAM),
    *(Z_IMAGE, LUMINA2, KREA2, PIXART, ERNIE, OMNIGEN2, HUNYUAN_DIT),
    *(HUNYUAN_VIDEO, HUNYUAN_VIDEO_15, HUNYUAN_IMAGE, WAN, LTXV, LTX2, KANDINSKY5, COSMOS, ANIMA, MOCHI),
    *(ACE_STEP, ACE_STEP_15, HUNYUAN_3D, HUNYUAN_3D_21, TRIPOSPLAT, STABLE_AUDIO, LENS, JOY_IMAGE, IDEOGRAM4),
    *(BOOGU, PIXELDIT, STABLE_CASCADE_C, STABLE_CASCADE_B, COGVIDEOX, MINIMAX_H3, SEEDVR2, COSMOS_1),
)
KIN = (  # networks of one design, made from one another: a file of one is used on the other on purpose
    frozenset({"Flux", "Chroma"}),
    frozenset({"Cosmos-Predict2", "Anima"}),
)


def family_of_modules(modules: Collection[str]) -> Family | None:
    """The family of a model, from its modules' names (without `diffusion_model.` and `.weight`); None where none fits.

    >>> family_of_modules({"blocks.0.self_attn.q", "blocks.0.cross_attn.o", "time_projection.1"}).name
    'Wan'
    """
    for family in FAMILIES:
        if all(name in modules for name in family.has) and not any(name in modules for name in family.lacks):
            return family
    return None


def are_kin(one: str, other: str) -> bool:
    """Whether two families are one, or networks of one design of which one was made from the other."""
    return one == other or any({one, other} <= kin for kin in KIN)
