"""Inside ComfyUI: the functions of `interface.Host`, in files of the same names as alone."""

from . import clip, diffusion, doctor, files, names, patches, progress, prompts, server, text_features, vae, vision

FILES = (clip, diffusion, doctor, files, names, patches, progress, prompts, server, text_features, vae, vision)
