// Simplified Chinese for the sentences that web/ shows itself.
import prompts from "./zh_prompts.mjs";

export default { ...prompts };
