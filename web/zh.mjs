// Simplified Chinese for the sentences that web/ shows itself.
import lora from "./lora_zh.mjs";

export default { ...lora };
