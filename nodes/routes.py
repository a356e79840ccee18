"""What the canvas asks the server while one writes: each address with the function that answers."""

from . import lora_editor, prompt_count
from .host import Route

ROUTES = {
    "/clip_vae_lora/tokens": Route("prompt", "counted", '{"text": "a cat"}', prompt_count.answer),
    "/clip_vae_lora/loras": Route("list", "checked", '{"text": "style : 0.8"}', lora_editor.check),
    "/clip_vae_lora/lora_header": Route("name", "looked up", '{"name": "style.safetensors"}', lora_editor.header),
}
