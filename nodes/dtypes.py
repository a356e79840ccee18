"""What the loaders offer as the type in which weights are kept."""

DTYPES = ["auto", "fp32", "fp16", "bf16"]
DTYPE_TOOLTIP = (
    "How the weights are kept. auto: what ComfyUI chooses (fp16), fp32 without ComfyUI; fp32 costs twice the memory. "
    "Activations are fp32 either way."
)
