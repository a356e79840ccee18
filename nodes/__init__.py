"""The nodes and the names they are saved under. An id is for ever; inputs are only ever appended."""

from .clip import LoadCLIPModel
from .conditioning import CombineConditioning, CompareConditioning, LoadConditioning, SaveConditioning
from .encode import InspectTokens, TextEncode, TextEncodeSDXL
from .host import host
from .image import CompareImages, ExampleImage
from .image_encode import EncodeImage
from .inpaint import CompositeInpaint, VAEEncodeInpaint
from .judge import ImageGate, RankImages, SelectLatents
from .latents import LatentDistribution, LatentInterpolate, SamplePrior
from .lora import LoadLoRA
from .lora_info import ConvertLoRA, LoRAInfo
from .lora_stack import LoRAStack
from .questions import RankTags, VisualQuestion
from .routes import ROUTES
from .search import FindDuplicates, IndexFolder, SearchImages
from .similarity import ImageTextSimilarity
from .text import LoadTextEncoder
from .vae import LoadVAE, VAEDecode, VAEEncode
from .zero_shot import ZeroShotClassify

NODE_CLASS_MAPPINGS = {
    "CVL_LoadTextEncoder": LoadTextEncoder,
    "CVL_TextEncode": TextEncode,
    "CVL_LoadCLIPModel": LoadCLIPModel,
    "CVL_ZeroShotClassify": ZeroShotClassify,
    "CVL_LoadVAE": LoadVAE,
    "CVL_VAEEncode": VAEEncode,
    "CVL_VAEDecode": VAEDecode,
    "CVL_CompareImages": CompareImages,
    "CVL_LoadLoRA": LoadLoRA,
    "CVL_ExampleImage": ExampleImage,
    "CVL_TextEncodeSDXL": TextEncodeSDXL,
    "CVL_InspectTokens": InspectTokens,
    "CVL_CompareConditioning": CompareConditioning,
    "CVL_CombineConditioning": CombineConditioning,
    "CVL_SaveConditioning": SaveConditioning,
    "CVL_LoadConditioning": LoadConditioning,
    "CVL_VAEEncodeInpaint": VAEEncodeInpaint,
    "CVL_CompositeInpaint": CompositeInpaint,
    "CVL_LatentDistribution": LatentDistribution,
    "CVL_LatentInterpolate": LatentInterpolate,
    "CVL_SamplePrior": SamplePrior,
    "CVL_LoRAStack": LoRAStack,
    "CVL_LoRAInfo": LoRAInfo,
    "CVL_ConvertLoRA": ConvertLoRA,
    "CVL_EncodeImage": EncodeImage,
    "CVL_IndexFolder": IndexFolder,
    "CVL_SearchImages": SearchImages,
    "CVL_FindDuplicates": FindDuplicates,
    "CVL_ImageTextSimilarity": ImageTextSimilarity,
    "CVL_RankImages": RankImages,
    "CVL_SelectLatents": SelectLatents,
    "CVL_ImageGate": ImageGate,
    "CVL_VisualQuestion": VisualQuestion,
    "CVL_RankTags": RankTags,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "CVL_LoadTextEncoder": "Load Text Encoder (CVL)",
    "CVL_TextEncode": "Text Encode (CVL)",
    "CVL_LoadCLIPModel": "Load CLIP Model (CVL)",
    "CVL_ZeroShotClassify": "Zero-Shot Classify (CVL)",
    "CVL_LoadVAE": "Load VAE (CVL)",
    "CVL_VAEEncode": "VAE Encode (CVL)",
    "CVL_VAEDecode": "VAE Decode (CVL)",
    "CVL_CompareImages": "Compare Images (CVL)",
    "CVL_LoadLoRA": "Load LoRA (CVL)",
    "CVL_ExampleImage": "Example Image (CVL)",
    "CVL_TextEncodeSDXL": "Text Encode SDXL (CVL)",
    "CVL_InspectTokens": "Inspect Tokens (CVL)",
    "CVL_CompareConditioning": "Compare Conditioning (CVL)",
    "CVL_CombineConditioning": "Combine Conditioning (CVL)",
    "CVL_SaveConditioning": "Save Conditioning (CVL)",
    "CVL_LoadConditioning": "Load Conditioning (CVL)",
    "CVL_VAEEncodeInpaint": "VAE Encode for Inpainting (CVL)",
    "CVL_CompositeInpaint": "Composite Inpaint (CVL)",
    "CVL_LatentDistribution": "Latent Distribution (CVL)",
    "CVL_LatentInterpolate": "Interpolate Latents (CVL)",
    "CVL_SamplePrior": "Sample Prior (CVL)",
    "CVL_LoRAStack": "LoRA Stack (CVL)",
    "CVL_LoRAInfo": "LoRA Info (CVL)",
    "CVL_ConvertLoRA": "Convert LoRA (CVL)",
    "CVL_EncodeImage": "Image Encode (CVL)",
    "CVL_IndexFolder": "Index Folder (CVL)",
    "CVL_SearchImages": "Search Images (CVL)",
    "CVL_FindDuplicates": "Find Duplicates (CVL)",
    "CVL_ImageTextSimilarity": "Image-Text Similarity (CVL)",
    "CVL_RankImages": "Rank Images (CVL)",
    "CVL_SelectLatents": "Select Latents (CVL)",
    "CVL_ImageGate": "Image Gate (CVL)",
    "CVL_VisualQuestion": "Visual Question (CVL)",
    "CVL_RankTags": "Rank Tags (CVL)",
}

host.serve(ROUTES)
