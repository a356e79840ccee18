// Charts as HTML, from the same JSON that the report output has: they have the node's size and the theme's colours.
import { app } from "../../scripts/app.js";
import { showOnNodes, tag } from "./gallery_home.mjs";
import { chartsOf } from "./chart_data.mjs";
import { bars, curves, heat, pictures, tokens } from "./chart_drawing.mjs";

const LABELS_PX = 120; // seven lines
const MOST_PX = 460, TRAINING_PX = 380, LEAST_PX = 90; // higher ones scroll
const DRAW = { bars, curves, heat, pictures, tokens };

function draw(node, root, message) {
  const charts = chartsOf(node.comfyClass, JSON.parse((message.cvl_chart ?? message.cvl_report)?.[0] ?? "{}"));
  if (!charts.length) return null;
  const room = tag("div", "cvl-scroll");
  const heights = charts.map((chart) => {
    if (chart.title) room.append(Object.assign(tag("div", "cvl-title", chart.title), { title: chart.title }));
    const { made, heightAt } = DRAW[chart.kind](chart);
    room.append(made);
    return (width) => heightAt(width) + (chart.title ? 18 : 0) + 4;
  });
  root.append(room);
  const most = TRAININGS.includes(node.comfyClass) ? TRAINING_PX : MOST_PX;
  return (width) => Math.min(most, heights.reduce((sum, heightAt) => sum + heightAt(width), 4));
}

const KINDS = ["CVL_ZeroShotClassify", "CVL_VisualQuestion", "CVL_RankTags", "CVL_ImageGate", "CVL_ImageTextSimilarity",
  "CVL_LatentDistribution", "CVL_InspectTokens", "CVL_LoRAInfo", "CVL_LoRAStack", "CVL_CompareConditioning",
  "CVL_ResizeLoRA", "CVL_ExtractLoRA", "CVL_CompareLoRAs"];
const TRAININGS = ["CVL_TrainLoRA", "CVL_TrainVAE", "CVL_TrainCLIP"]; // two curves and a row of samples; more rows scroll
const NARROW = ["CVL_LoadLoRA"]; // few bars with short names
const VIEW = { widget: "cvl_chart", draw, least: LEAST_PX };
showOnNodes("clip-vae-lora.chart", KINDS, { ...VIEW, width: 320 });
showOnNodes("clip-vae-lora.training_chart", TRAININGS, { ...VIEW, width: 320 });
showOnNodes("clip-vae-lora.narrow_chart", NARROW, { ...VIEW, width: 240 });

app.registerExtension({
  name: "clip-vae-lora.labels",
  nodeCreated(node) {
    if (node.comfyClass !== "CVL_ZeroShotClassify") return;
    const labels = node.widgets?.find(({ name }) => name === "labels");
    if (labels?.options) labels.options.getMinHeight = () => LABELS_PX; // classic nodes share the room evenly otherwise
  },
});
