"""Facts for the Doctor that both hosts tell in the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ....doctor.facts import CLIP, Facts, Text
from ....doctor.texts import TEXTS
from .towers import Towers

_OWN_TEXTS = {"sd1": "clip_l", "sd2": "clip_h", "sdxl": "clip_lg", "sdxl_refiner": "clip_g", "sd3": "sd3"}
_LITTLE = 0.02  # a form of fewer numbers than this share is not named: norms and biases


def own_text(towers: Towers) -> str | None:
    """The row of `texts.TEXTS` of text encoders that this pack loaded; None for sizes that no row has."""
    widths = [tower.transformer.config.width for tower in towers.towers()]
    return "small" if widths == [TEXTS["small"].width] else _OWN_TEXTS.get(towers.family.name)


def clip_facts(name: str, kind: str | None, title: str, inside: Sequence[str], **words: str) -> Facts:
    """The facts of a CLIP of a row of `texts.TEXTS`, None for one that is not known; `inside` names its encoders."""
    details = {"class": title, "encoders": list(inside)}
    if kind is None:
        return Facts(CLIP, name, f"{title} ({', '.join(inside)})" if inside else title, details=details, **words)
    row = TEXTS[kind]
    text = Text((kind,), row.width or None, row.pooled)
    return Facts(CLIP, name, row.title, text=text, details=details, **words)


def count_words(forms: Mapping[str, int]) -> tuple[str, str]:
    """How many numbers there are, "12.0 B", and their forms by how many there are, "bfloat16, scaled float8_e4m3fn"."""
    total = sum(forms.values())
    named = sorted((form for form in forms if forms[form] > _LITTLE * total), key=lambda form: -forms[form])
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if total >= size:
            return f"{total / size:.3g} {unit}", ", ".join(named)
    return str(total), ", ".join(named)
