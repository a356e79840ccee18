"""Inside ComfyUI: the functions of `interface.Host`, in files of the same names as alone."""

from . import clip, doctor, files, names, patches, progress, prompts, server, text_features, vae, vision

FILES = (clip, doctor, files, names, patches, progress, prompts, server, text_features, vae, vision)
