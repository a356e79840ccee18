"""State-dict keys and shapes of the published layouts: weights without their biases, and a picture encoder."""

from clip_vae_lora.lora.models.published import flux, refiner, sd2, sd3, sd15, sdxl, text

LAYOUTS = {"SD15": sd15, "SD2": sd2, "SDXL": sdxl, "SDXL_refiner": refiner}
__all__ = ["LAYOUTS", "flux", "sd3", "text", "vision"]


def vision(width, layers, embed):
    out = {
        f"vision_model.{key.split('text_model.')[1]}": shape
        for key, shape in text("", width, layers).items()
        if ".encoder." in key
    }
    return out | {
        "vision_model.embeddings.patch_embedding.weight": (width, 3, 32, 32),
        "visual_projection.weight": (embed, width),
    }
