"""8-bit colours of a decoded picture, what is transparent in it laid over a ground of one colour."""

import numpy as np
from PIL import Image

WHITE = "white"
GROUNDS = {WHITE: (255, 255, 255), "gray": (128, 128, 128), "black": (0, 0, 0)}


def on_ground(picture: Image.Image, ground: str = WHITE) -> tuple[Image.Image, bool]:
    """Return the picture in RGB over a ground of `GROUNDS`, and whether anything of it is transparent."""
    if not _may_be_transparent(picture):
        return _rgb(picture), False
    whole = picture.convert("RGBA")
    if whole.getchannel("A").getextrema()[0] == 255:
        return _rgb(picture), False
    below = Image.new("RGBA", whole.size, (*GROUNDS[ground], 255))
    below.alpha_composite(whole)
    return below.convert("RGB"), True


def _may_be_transparent(picture: Image.Image) -> bool:
    if picture.mode.startswith("I") or picture.mode == "F":
        return False
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


def _rgb(picture: Image.Image) -> Image.Image:
    if not (picture.mode.startswith("I") or picture.mode == "F"):
        return picture.convert("RGB")
    grey = np.array(picture).astype(np.float32) / (1.0 if picture.mode == "F" else 65535.0)
    return Image.fromarray(np.rint(np.clip(np.nan_to_num(grey), 0, 1) * 255).astype(np.uint8)).convert("RGB")
