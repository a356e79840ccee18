// "Doctor" in the right-click menu of every node of every pack: a Doctor beside it, connected to all that it gives.
import { app } from "../../scripts/app.js";
import { chain } from "./chain.mjs";
import { placeBeside, planWires } from "./doctor_wiring.mjs";
import { t } from "./words.mjs";

const KIND = "CVL_Doctor";
const TITLE_PX = 30, WIDTH_PX = 560;

let inputs = []; // those of a Doctor: {name, type}

const boxOf = ({ pos, size }) => ({ x: pos[0], y: pos[1] - TITLE_PX, width: size[0], height: size[1] + TITLE_PX });

/** What goes into a node: {node, slot, type} of each output at the other ends of its links. */
function sourcesOf(node) {
  const graph = node.graph;
  return (node.inputs ?? []).map(({ link }) => {
    const found = link == null ? null : graph?.getLink?.(link) ?? graph?.links?.get?.(link) ?? graph?.links?.[link];
    const from = found && graph.getNodeById(found.origin_id);
    return from && { node: from, slot: found.origin_slot, type: from.outputs?.[found.origin_slot]?.type ?? found.type };
  }).filter(Boolean);
}

const outputsOf = (node) => (node.outputs ?? []).map(({ type }, slot) => ({ node, slot, type }));

/** The Doctor to which all of these outputs are connected already. */
function doctorAt(node, sources, plan) {
  const doctors = (node.graph?._nodes ?? []).filter((other) => (other.comfyClass ?? other.type) === KIND);
  return doctors.find((doctor) => plan.length === 1 && plan[0].every(({ output }) => sourcesOf(doctor)
    .some((there) => there.node === sources[output].node && there.slot === sources[output].slot)));
}

function add(node, sources, wires) {
  const doctor = window.LiteGraph.createNode(KIND), graph = node.graph;
  const size = { width: doctor.size[0], height: doctor.size[1] + TITLE_PX };
  const { x, y } = placeBeside(boxOf(node), size, graph._nodes.map(boxOf));
  doctor.pos = [x, y + TITLE_PX];
  graph.add(doctor);
  for (const { output, input } of wires) {
    const { node: source, slot } = sources[output];
    source.connect(slot, doctor, doctor.inputs.findIndex(({ name }) => name === input));
  }
  return doctor;
}

function select(doctor) {
  const canvas = app.canvas;
  if (canvas.selectItems) canvas.selectItems([doctor]);
  else canvas.selectNodes?.([doctor]);
  canvas.setDirty(true, true);
}

/** Connects a Doctor to these outputs, a new one where there is none yet; several where two are of one type. */
function connect(node, sources, plan) {
  const graph = node.graph, there = doctorAt(node, sources, plan);
  if (there) return select(there);
  graph.beforeChange?.(node);
  const made = plan.map((wires) => add(node, sources, wires));
  graph.afterChange?.(node);
  select(made[0]);
}

/** The entries for a node's menu: for what comes out of it, and for what goes in, which runs before the node does. */
export function entries(node) {
  if (!node?.graph || (node.comfyClass ?? node.type) === KIND) return [];
  return [[t("Doctor"), outputsOf(node)], [t("Doctor: what goes in"), sourcesOf(node)]]
    .map(([content, sources]) => ({ content, sources, plan: planWires(sources, inputs) }))
    .filter(({ plan }) => plan.length)
    .map(({ content, sources, plan }) => ({ content, callback: () => connect(node, sources, plan) }));
}

app.registerExtension({
  name: "clip-vae-lora.doctor",
  /** Front ends from 1.28 on ask every extension; older ones ask the node's class. */
  getNodeMenuItems: entries,
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name === KIND) {
      inputs = Object.entries(nodeData.input?.optional ?? {})
        .map(([name, [type]]) => ({ name, type })).filter(({ type }) => typeof type === "string");
      chain(nodeType.prototype, "onNodeCreated", (node) => node.setSize([Math.max(node.size[0], WIDTH_PX), node.size[1]]));
    }
    if (typeof app.collectNodeMenuItems === "function") return;
    chain(nodeType.prototype, "getExtraMenuOptions", (node, _, options) => options?.push(...entries(node)));
  },
});
