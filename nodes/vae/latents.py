"""Latents as numbers: the distribution that a VAE gives, and mixtures of two."""

from __future__ import annotations

from ...drawing.channel_plot import channel_plot
from ...vae_core import inpaint, latents
from ..checks import check_image, check_numbers, check_samples
from ..host import host
from ..reports import as_json, shown
from .fit import channel_notes, frame_notes, picture_vae
from .true_size import SKETCH, TRUE_SIZE, size_kept, size_of_mixture

_NAMES = {TRUE_SIZE: "the picture's true size", "noise_mask": "noise mask", "batch_index": "batch numbers"}


class LatentDistribution:
    CATEGORY = "CVL/VAE"
    DESCRIPTION = (
        "Shows the distribution that a VAE gives for a picture, not one latent of it: mean and log-variance, and how "
        "much each channel tells (its KL divergence from the standard normal, in nats)."
    )
    SEARCH_ALIASES = ["posterior", "KL divergence", "logvar", "latent channels"]
    RETURN_TYPES = ("LATENT", "LATENT", "IMAGE", "STRING")
    RETURN_NAMES = ("mean", "log_variance", "plot", "report")
    OUTPUT_TOOLTIPS = (
        "The mean: the latent of VAE Encode.",
        "The natural logarithm of the variance of each value, within -30 to 20.",
        "KL, mean and spread of each channel.",
        "The same numbers for each channel, as JSON.",
    )
    FUNCTION = "measure"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "pixels": (
                    "IMAGE",
                    {"tooltip": "The pictures to encode. Their border is mirrored to fill whole cells."},
                ),
                "vae": ("VAE", {"tooltip": "A full VAE. A tiny autoencoder has no distribution."}),
            }
        }

    def measure(self, pixels, vae):
        check_image(pixels)
        check_numbers(pixels, "this IMAGE")
        facts = picture_vae(vae)
        size = list(pixels.shape[1:3])
        image = inpaint.padded_to_cells(pixels, facts.px_per_cell)
        worked = host.posterior(vae, image)
        mean, logvar = worked.result.mean, worked.result.logvar
        check_numbers(mean, "the latent that the VAE made of a sound picture")
        found = latents.channel_statistics(mean, logvar)
        padded = [now - before for now, before in zip(image.shape[1:3], size)]
        data = _distribution_data(found, list(mean.shape), padded)
        data |= {
            "plan": worked.plan,
            "notes": [*worked.notes, *channel_notes(pixels, facts), *frame_notes(pixels, mean, facts)],
        }
        rows = image.shape[1] * (facts.frames_of(mean.shape[2]) if facts.frames_of else 1)  # of all frames
        data["bits_per_px"] = round(latents.bits_per_pixel(found.kl, rows, image.shape[2]), 4)
        numbers = [values.tolist() for values in (found.kl, found.mean, found.std, found.noise)]
        plot = channel_plot(*numbers)
        kept = [size_kept(size, values) if any(padded) else {} for values in (mean, logvar)]
        results = ({"samples": mean, **kept[0]}, {"samples": logvar, **kept[1]}, plot, as_json(data))
        return shown(_distribution_lines(data), data, results, host.save_preview(plot, "cvl_distribution"))


def _distribution_data(found: latents.ChannelStatistics, shape: list[int], padded: list[int]) -> dict:
    numbers = zip(*(values.tolist() for values in (found.kl, found.mean, found.std, found.noise)))
    names = ("kl_nats", "mean", "std", "posterior_std")
    return {
        "latent": shape,
        "padded_px": padded,
        "kl_nats": round(float(found.kl.sum()), 3),
        "channels": [{name: round(value, 6) for name, value in zip(names, row)} for row in numbers],
    }


def _distribution_lines(data: dict) -> list[str]:
    kl = [channel["kl_nats"] for channel in data["channels"]]
    most = kl.index(max(kl))
    lines = [
        f"{len(kl)} channels; channel {most} holds most of the picture, {kl[most] / (sum(kl) or 1):.0%}",
    ]
    if silent := [place for place, value in enumerate(kl) if value < 0.01 * sum(kl) / len(kl)]:
        lines.append(
            f"next to nothing is in {'channel' if len(silent) == 1 else 'channels'} {', '.join(map(str, silent))}"
        )
    if any(data["padded_px"]):
        down, right = data["padded_px"]
        lines.append(f"mirrored {down} rows at the bottom and {right} columns at the right to fill whole cells")
    return lines + data["notes"]


class LatentInterpolate:
    CATEGORY = "CVL/VAE"
    DESCRIPTION = (
        "Goes from one latent to another, in one place or in steps: along the line between them, or along the great "
        "circle, which keeps the length that noise has (slerp)."
    )
    SEARCH_ALIASES = ["LatentBlend", "slerp", "lerp latent", "mix latents", "morph"]
    RETURN_TYPES = ("LATENT", "STRING")
    RETURN_NAMES = ("latent", "report")
    OUTPUT_TOOLTIPS = (
        "The mixture; with steps, all of them as a batch. Noise mask and the rest are the first's.",
        "Factors, the cosine between the two, and what was kept, as JSON.",
    )
    FUNCTION = "interpolate"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "first": ("LATENT", {"tooltip": "Where the way begins, factor 0."}),
                "second": ("LATENT", {"tooltip": "Where it ends, factor 1: of the same shape, as many or one."}),
                "factor": (
                    "FLOAT",
                    {
                        "default": 0.5,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "How far to go. Not used with more than one step.",
                    },
                ),
            },
            "optional": {
                "mode": (
                    ["spherical", "linear"],
                    {
                        "tooltip": "spherical: turns the direction and changes the length evenly, for noise. linear: "
                        "the weighted mean of each value, for encoded pictures."
                    },
                ),
                "steps": (
                    "INT",
                    {
                        "default": 1,
                        "min": 1,
                        "max": 256,
                        "tooltip": "1: one latent, at the factor. More: so many, evenly from the first to the second.",
                    },
                ),
            },
        }

    def interpolate(self, first, second, factor, mode="spherical", steps=1):
        a, b = check_samples(first, "the first"), check_samples(second, "the second")
        factors = [factor] if steps == 1 else [step / (steps - 1) for step in range(steps)]
        mixed = latents.interpolate(a, b, factors, spherical=mode == "spherical")
        batch = len(mixed.latent) // len(factors)
        latent, kept = _like_first(first, [item % len(a) for item in range(batch) for _ in factors])
        latent["samples"] = mixed.latent
        sized = size_of_mixture(first, second, mixed.latent)
        latent |= sized
        straight = int(mixed.straight.sum()) if mode == "spherical" else 0
        cosines = [round(value, 6) if value == value else None for value in mixed.cosine.tolist()]
        dropped = sorted(set(second) - {"samples", SKETCH})
        data = {
            "latent": list(mixed.latent.shape),
            "mode": mode,
            "factors": [round(value, 6) for value in factors],
            "cosine": cosines,
            "without_an_arc": straight,
            "kept_from_first": [name for name in kept if name != TRUE_SIZE or sized],
            "dropped_from_second": dropped,
            "size_lost": TRUE_SIZE in kept and not sized,
        }
        return shown(_interpolate_lines(data), data, (latent, as_json(data)))


def _like_first(first: dict, rows: list[int]) -> tuple[dict, list[str]]:
    """The first LATENT without its samples and its picture's size, what it has for each of them in the order of the new
    rows; and the names of what it has.
    """
    count = len(first["samples"])
    latent = {name: value for name, value in first.items() if name not in (TRUE_SIZE, SKETCH)}
    if latent.get("noise_mask") is not None and len(latent["noise_mask"]) == count > 1:
        latent["noise_mask"] = latent["noise_mask"][rows]
    if len(latent.get("batch_index", ())) == count:
        latent["batch_index"] = [latent["batch_index"][row] for row in rows]
    return latent, sorted(set(first) - {"samples", SKETCH})


def _interpolate_lines(data: dict) -> list[str]:
    factors = data["factors"]
    way = f"factor {factors[0]}" if len(factors) == 1 else f"{len(factors)} steps from the first to the second"
    how = "along the arc, for noise" if data["mode"] == "spherical" else "along the straight line, for pictures"
    lines = [f"{way}, {how}"]
    if data["without_an_arc"]:
        lines.append(
            f"{data['without_an_arc']} of {len(data['cosine'])} mixed linearly: one of the two is zero, or "
            "they are opposite, and no one arc joins them"
        )
    if data["kept_from_first"]:
        lines.append(f"kept from the first: {', '.join(_NAMES.get(name, name) for name in data['kept_from_first'])}")
    if data["size_lost"]:
        lines.append(
            "the first's picture was padded and the second's not alike: the mixture keeps no size, and nothing of it "
            "will be cut"
        )
    if data["dropped_from_second"]:
        lines.append(
            f"not taken from the second: {', '.join(_NAMES.get(name, name) for name in data['dropped_from_second'])}"
        )
    return lines


NODES = {
    "CVL_LatentDistribution": (LatentDistribution, "Latent Distribution (CVL)"),
    "CVL_LatentInterpolate": (LatentInterpolate, "Interpolate Latents (CVL)"),
}
