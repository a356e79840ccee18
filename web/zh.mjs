// Simplified Chinese for the sentences that web/ shows itself.
import lora from "./lora_zh.mjs";
import prompts from "./zh_prompts.mjs";

export default { ...lora, ...prompts };
