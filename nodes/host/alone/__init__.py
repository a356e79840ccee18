"""Without ComfyUI: the same functions over plain folders and plain networks, for `headless/run.py` and for tests.

They are in files of the same names as ComfyUI's. Networks compute on the GPU where torch has one, in float32 unless
the node says otherwise.
"""

from . import clip, diffusion, doctor, files, names, patches, progress, prompts, server, text_features, vae, vision

FILES = (clip, diffusion, doctor, files, names, patches, progress, prompts, server, text_features, vae, vision)
