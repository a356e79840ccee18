"""What the canvas asks the server while one writes: each address with the function that answers."""

from .host import PictureRoute, Route
from .lora import editor
from .text import token_count, word_list
from .training import live

ROUTES = {
    "/clip_vae_lora/tokens": Route("prompt", "counted", '{"text": "a cat"}', token_count.answer),
    "/clip_vae_lora/words": Route("name", "looked up", '{"list": "words.txt"}', word_list.answer),
    "/clip_vae_lora/loras": Route("list", "checked", '{"text": "style : 0.8"}', editor.check),
    "/clip_vae_lora/lora_header": Route("name", "looked up", '{"name": "style.safetensors"}', editor.header),
    "/clip_vae_lora/stop_training": Route("node", "stopped", '{"node": "12"}', live.stop_and_keep),
    "/clip_vae_lora/lora_preview": PictureRoute(editor.preview),
}
