// Simplified Chinese for what web/ says itself and for the sentences of the server: the tables in zh/, as one.
const PARTS = [
  "pieces", "web", "clip_core", "vae_core", "lora", "files", "index", "drawing", "nodes", "nodes_clip",
  "nodes_conditioning", "nodes_host", "nodes_lora", "doctor", "nodes_search", "nodes_text", "nodes_vae",
  "lora_workshop", "nodes_workshop", "lora_extraction", "training", "training_clip", "training_vae", "few_labels",
  "comfyui", // what the server says of a prompt that it refuses
];

async function read(part) {
  const answer = await fetch(new URL(`./zh/${part}.json`, import.meta.url));
  if (!answer.ok) throw new Error(`web/zh/${part}.json: ${answer.status}`);
  return answer.json();
}

/** All sentences: English -> Chinese. */
export async function words() {
  return Object.assign({}, ...await Promise.all(PARTS.map(read)));
}

/** The values of menus -> what is shown for them. */
export const menus = () => read("menus");

/** The texts of the examples: notes, titles of groups, and what stands behind the names of nodes. */
export const examples = () => read("examples");
