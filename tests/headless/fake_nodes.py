"""Three small node classes, so that the tests of running workflows need no node of the pack."""

import json

import torch


class Colour:
    """Every kind of widget, a seed among them, and a socket in the middle."""

    RETURN_TYPES, FUNCTION = ("IMAGE", "STRING"), "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "name": (["red", "green", "blue"], {}),
                "size": ("INT", {"default": 8, "min": 1, "max": 64}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1}),
                "text": ("STRING", {"multiline": True, "default": "hello"}),
            },
            "optional": {
                "image": ("IMAGE",),
                "gain": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0}),
                "invert": ("BOOLEAN", {"default": False}),
                "mode": ("COMBO", {"options": ["a", "b"]}),
            },
            "hidden": {"unique_id": "UNIQUE_ID", "prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def run(
        self,
        name,
        size,
        seed,
        text,
        image=None,
        gain=1.0,
        invert=False,
        mode="a",
        unique_id=None,
        prompt=None,
        extra_pnginfo=None,
    ):
        assert torch.is_inference_mode_enabled()  # as in ComfyUI
        if text == "explode":
            raise RuntimeError("it broke\nhere is what to do")
        picture = torch.zeros(1, size, size, 3)
        picture[..., ["red", "green", "blue"].index(name)] = gain
        picture = 1 - picture if invert else picture
        said = {
            "id": unique_id,
            "text": text,
            "seed": seed,
            "mode": mode,
            "nodes": sorted(prompt),
            "canvas": extra_pnginfo is not None,
            "given": image is not None,
        }
        return {"ui": {"text": [text]}, "result": (picture, json.dumps(said))}


class Split:
    RETURN_TYPES, FUNCTION, OUTPUT_IS_LIST = ("STRING", "INT"), "run", (True, False)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"forceInput": True})}}

    def run(self, text):
        words = text.split()
        return words, len(words)


class Join:
    RETURN_TYPES, FUNCTION, INPUT_IS_LIST, OUTPUT_NODE = ("STRING",), "run", True, True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"words": ("STRING", {"forceInput": True}), "glue": ("STRING", {"default": "-"})}}

    async def run(self, words, glue):
        assert isinstance(glue, list)
        return {"ui": {"text": [glue[0].join(words)]}, "result": (glue[0].join(words),)}


FAKES = {"Colour": Colour, "Split": Split, "Join": Join}
