// "Stop and keep" in the right-click menu of nodes that train: what one has learned so far becomes the file, and the workflow goes on.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { chain } from "./chain.mjs";
import { t } from "./words.mjs";

const KINDS = new Set(["CVL_TrainLoRA", "CVL_TrainVAE", "CVL_TrainCLIP"]), ADDRESS = "/clip_vae_lora/stop_training";

const stop = (node) => api.fetchApi(ADDRESS, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ node: String(node.id) }),
});

export const entries = (node) => KINDS.has(node?.comfyClass ?? node?.type)
  ? [{ content: t("Stop and keep what it has learned"), callback: () => { stop(node); } }] : [];

app.registerExtension({
  name: "clip-vae-lora.training",
  /** Front ends from 1.28 on ask every extension; older ones ask the node's class. */
  getNodeMenuItems: entries,
  beforeRegisterNodeDef(nodeType, { name }) {
    if (!KINDS.has(name) || typeof app.collectNodeMenuItems === "function") return;
    chain(nodeType.prototype, "getExtraMenuOptions", (node, _, options) => options?.push(...entries(node)));
  },
});
