// What the LoRA editor asks the server.
import { api } from "../../scripts/api.js";

/** What the server answers, or null. */
export async function ask(route, question) {
  try {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify(question);
    return await (await api.fetchApi(`/clip_vae_lora/${route}`, { method: "POST", headers, body })).json();
  } catch {
    return null; // no server, or no such route
  }
}

/** What a file of the menu says of itself. */
export const factsOf = (name) => ask("lora_header", { name });
