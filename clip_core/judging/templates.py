"""Templates, the sentences that labels are put into: the sets of the pack, and the user's own.

PHOTOS_80 are the templates that openai/CLIP chose for ImageNet, PHOTOS_7 the seven of them that it found to do nearly
as well (notebooks/Prompt_Engineering_for_ImageNet.ipynb at commit d05afc43; MIT licence, Copyright (c) 2021 OpenAI).
"""

import re

PLACE = re.compile(r"\{(?:label)?\}")

_PICTURES = (  # kinds of pictures: "a bad photo of a {}."
    "a photo",
    "a bad photo",
    "a good photo",
    "a bright photo",
    "a dark photo",
    "a blurry photo",
    "a cropped photo",
    "a close-up photo",
    "a low resolution photo",
    "a pixelated photo",
    "a jpeg corrupted photo",
    "a black and white photo",
    "a painting",
    "a drawing",
    "a sketch",
    "a doodle",
    "a rendering",
    "a rendition",
    "a sculpture",
    "a tattoo",
    "graffiti",
    "art",
    "itap",
)
_LOOKS = ("hard to see", "clean", "dirty", "cool", "nice", "weird", "large", "small")  # "a photo of a clean {}."
_STUFFS = ("embroidered", "plastic", "origami", "toy", "cartoon", "plushie")  # "a plastic {}."

PHOTOS_80 = (
    *(f"{picture} of {article} {{}}." for picture in _PICTURES for article in ("a", "the")),
    *(f"a photo of {article} {look} {{}}." for look in _LOOKS for article in ("a", "the")),
    *(f"{article} {stuff} {{}}." for stuff in _STUFFS for article in ("a", "the")),
    "a {} in a video game.",
    "the {} in a video game.",
    "a photo of many {}.",
    "a photo of one {}.",
    "a photo of my {}.",
    "itap of my {}.",
)
PHOTOS_7 = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

SETS: dict[str, tuple[str, ...]] = {"none": (), "7 for photographs": PHOTOS_7, "80 for photographs": PHOTOS_80}


def fill(template: str, label: str) -> str:
    """Fill a template with a label, at `{}` or `{label}`. Braces in the label are text.

    Raises:
        ValueError: the template has no {label}.
    """
    check_template(template)
    return PLACE.sub(lambda _: label, template)


def check_template(template: str) -> None:
    """Check a template.

    Raises:
        ValueError: it has no {label}.
    """
    if not PLACE.search(template):
        raise ValueError(f"the template {template!r} has no place for the label; put {{label}} where it goes")


def template_list(template: str, chosen_set: str, own: str) -> list[str]:
    """Gather templates: a single one, a set's, and the user's own, one a line. Each comes once; empty fields add none.

    Raises:
        ValueError: a template has no {label}, or there is no such set.
    """
    if chosen_set not in SETS:
        raise ValueError(f"there is no template set {chosen_set!r}; choose one of {', '.join(SETS)}")
    lines = [template, *SETS[chosen_set], *own.splitlines()]
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    for line in found:
        check_template(line)
    return found
