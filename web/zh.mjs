// Simplified Chinese for the sentences that web/ shows itself.
import lora from "./lora_zh.mjs";
import pictures from "./zh_pictures.mjs";
import prompts from "./zh_prompts.mjs";

export default { ...lora, ...pictures, ...prompts };
