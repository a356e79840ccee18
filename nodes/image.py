"""Pictures: a few to try things on, and one beside another."""

from __future__ import annotations

from ..files.images import read_image
from ..vae_core.quality import SSIM_WINDOW_PX, amplified_difference, psnr_db, psnr_db_each, ssim
from .checks import check_image, check_numbers
from .host import host
from .host.shared.data_folders import EXAMPLES_FOLDER
from .reports import as_json, shown

EXAMPLES = {
    "red circle": "red_circle.png",
    "blue star": "blue_star.png",
    "striped heart": "striped_green_heart.png",
    "photograph": "grace_hopper.jpg",
}


class ExampleImage:
    CATEGORY = "CVL/image"
    DESCRIPTION = (
        "A picture that comes with this pack, so that the example workflows run on every machine: three drawn shapes "
        "and a photograph in the public domain."
    )
    SEARCH_ALIASES = ["test image", "sample picture", "LoadImage"]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The picture.",)
    FUNCTION = "read"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"picture": (list(EXAMPLES), {"tooltip": "Which of the bundled pictures."})}}

    def read(self, picture):
        image, _ = read_image(EXAMPLES_FOLDER / EXAMPLES[picture])
        data = {"picture": picture, "image": list(image.shape)}
        lines = [f"{picture}, {image.shape[2]} x {image.shape[1]} px"]
        return shown(lines, data, (image,), host.save_preview(image, "cvl_example"))


class CompareImages:
    CATEGORY = "CVL/image"
    DESCRIPTION = (
        "Shows two pictures under a slider, before and after, and measures how near they are: the largest and the mean "
        "difference, PSNR and SSIM, with a picture of where they differ. Batches are compared pair by pair."
    )
    SEARCH_ALIASES = [
        "image slider",
        "image comparer",
        "before after",
        "compare",
        "side by side",
        "PSNR",
        "SSIM",
        "difference",
        "image diff",
    ]
    RETURN_TYPES = ("FLOAT", "IMAGE", "STRING", "FLOAT")
    RETURN_NAMES = ("psnr_db", "difference", "report", "ssim")
    OUTPUT_TOOLTIPS = (
        "Peak signal-to-noise ratio over the whole batch, in dB; more is nearer.",
        "The difference of each pixel, times the gain.",
        "PSNR and SSIM of each pair, mean and largest difference, as JSON.",
        "Structural similarity, the mean over the batch; 1 for equal pictures, NaN for those below 11 px.",
    )
    FUNCTION = "compare"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "first": ("IMAGE", {"tooltip": "A picture or a batch, the original say."}),
                "second": (
                    "IMAGE",
                    {
                        "tooltip": "The same number of pictures of the same size. If they are up to 63 px smaller, as "
                        "after a VAE, the first ones are cut at the centre to their size."
                    },
                ),
            },
            "optional": {
                "gain": (
                    "FLOAT",
                    {
                        "default": 4.0,
                        "advanced": True,
                        "min": 1.0,
                        "max": 100.0,
                        "step": 1.0,
                        "tooltip": "How much the difference picture is brightened.",
                    },
                ),
            },
        }

    def compare(self, first, second, gain=4.0):
        for image, name in ((first, "the first picture"), (second, "the second picture")):
            check_image(image)
            check_numbers(image, name)
        first, second = first[..., :3], second[..., :3].to(first.device)
        first, cut = _cut_to(first, second)
        pairs = [_decibels(value) for value in psnr_db_each(first, second)]
        whole = psnr_db(first, second)
        alike = _similarities(first, second)
        apart = (first - second).abs()
        difference = amplified_difference(first, second, gain)
        data = {
            "psnr_db": _decibels(whole),
            "pictures": pairs,
            "mean_difference": round(float(apart.mean()), 6),
            "largest_difference": round(float(apart.max()), 6),
            "cut_px": cut,
            "size_px": list(first.shape[1:3]),
            "ssim": None if alike is None else round(sum(alike) / len(alike), 6),
            "ssim_pictures": None if alike is None else [round(value, 6) for value in alike],
        }
        lines = _compare_lines(data)
        if any(cut):
            lines.append(f"the first picture was cut at the centre by {cut[0]} rows and {cut[1]} columns")
        mean = float("nan") if alike is None else sum(alike) / len(alike)
        results = (whole, difference, as_json(data), mean)
        answer = shown(lines, data, results, host.save_preview(difference, "cvl_difference"))
        pairs = {
            "a_images": host.save_preview(first, "cvl_first"),
            "b_images": host.save_preview(second, "cvl_second"),
        }
        return {**answer, "ui": {**answer["ui"], **pairs}}


def _compare_lines(data: dict) -> list[str]:
    """What the numbers mean for the eye, then the numbers that people know."""
    most, mean, psnr = data["largest_difference"], data["mean_difference"], data["psnr_db"]
    if psnr is None:
        return ["the pictures are equal, every pixel of them"]
    if most <= 1 / 255:
        said = "nobody can see that: it is one step of 8-bit colour at most"
    elif psnr > 40:
        said = "hardly to be seen, even with the slider"
    elif psnr > 30:
        said = "to be seen with the slider, in fine detail"
    else:
        said = "plain to see"
    lines = [
        f"they differ by {most:.1%} at most and {mean:.2%} on average: {said}",
        f"PSNR {psnr:.2f} dB, {_ssim_line(data['ssim'])}",
    ]
    pairs = data["pictures"]
    if len(pairs) > 1:
        worst = min(range(len(pairs)), key=lambda place: float("inf") if pairs[place] is None else pairs[place])
        lines.append(f"of {len(pairs)} pairs, #{worst} differs most: look at that one first")
    return lines


def _similarities(first, second) -> list[float] | None:
    """SSIM of each pair; None where no window fits in."""
    return None if min(first.shape[1:3]) < SSIM_WINDOW_PX else ssim(first, second).tolist()


def _ssim_line(value: float | None) -> str:
    if value is None:
        return f"no SSIM: it needs sides of {SSIM_WINDOW_PX} px or more"
    return f"SSIM {value:.4f}"


def _decibels(value: float) -> float | None:
    return None if value == float("inf") else round(value, 4)  # JSON has no infinity; null: the pictures are equal


LARGEST_CUT_PX = 64


def _cut_to(first, second):
    """The first picture at the second's size, and how many rows and columns that took."""
    (batch, height, width), (others, rows, columns) = first.shape[:3], second.shape[:3]
    cut = [height - rows, width - columns]
    if batch != others or not all(0 <= side < LARGEST_CUT_PX for side in cut):
        raise ValueError(
            f"two batches of one size were expected, but the first is {batch} of {width} x {height} px and the "
            f"second {others} of {columns} x {rows} px; scale one of them"
        )
    top, left = cut[0] // 2, cut[1] // 2
    return first[:, top : top + rows, left : left + columns], cut


NODES = {
    "CVL_CompareImages": (CompareImages, "Compare Images (CVL)"),
    "CVL_ExampleImage": (ExampleImage, "Example Image (CVL)"),
}
