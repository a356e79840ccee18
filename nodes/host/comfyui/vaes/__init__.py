"""VAEs at work inside ComfyUI: their memory, its layers in our networks, and those that it runs itself."""
