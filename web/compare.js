// Compare Images: both pictures of a pair under a slider that follows the pointer, and their difference.
import { addressOf, showOnNodes, tag } from "./gallery_home.mjs";
import { t } from "./words.mjs";

const HEAD_PX = 28, LEAST_STAGE_PX = 180, MOST_STAGE_PX = 420;

function picture(entry, className) {
  const made = tag("img", className);
  made.src = addressOf(entry);
  made.alt = entry.filename;
  made.draggable = false;
  return made;
}

/** The stage with a pair: the first picture left of the edge, the second right of it. */
function slider(first, second) {
  const stage = tag("div", "cvl-stage"), above = picture(first, "cvl-first"), edge = tag("div", "cvl-edge");
  const left = tag("div", "cvl-side", t("first")), right = tag("div", "cvl-side", t("second"));
  left.style.left = right.style.right = "4px";
  stage.append(picture(second, "cvl-second"), above, edge, left, right);
  stage.tabIndex = 0;
  stage.setAttribute("role", "slider");
  stage.setAttribute("aria-label", t("Move the pointer: the first picture left of the line, the second right of it"));
  let at = 50;
  const moveTo = (percent) => {
    at = Math.min(100, Math.max(0, percent));
    above.style.clipPath = `inset(0 ${100 - at}% 0 0)`;
    edge.style.left = `${at}%`;
    stage.setAttribute("aria-valuenow", at.toFixed(0));
  };
  stage.addEventListener("pointermove", (event) => {
    const { left: begin, width } = stage.getBoundingClientRect();
    moveTo((100 * (event.clientX - begin)) / width);
  });
  stage.addEventListener("pointerdown", (event) => event.stopPropagation()); // moves the line, not the node
  stage.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -5, ArrowRight: 5 }[event.key];
    if (!step) return;
    event.stopPropagation();
    event.preventDefault();
    moveTo(at + step);
  });
  moveTo(at);
  return stage;
}

function plain(entry) {
  const stage = tag("div", "cvl-stage");
  stage.style.cursor = "default";
  stage.append(picture(entry, "cvl-difference"));
  return stage;
}

function pairLine(report, place) {
  const psnr = report.pictures?.[place], ssim = report.ssim_pictures?.[place];
  if (psnr === null) return t("equal");
  const words = [`PSNR ${psnr?.toFixed(1)} dB`];
  if (typeof ssim === "number") words.push(`SSIM ${ssim.toFixed(3)}`);
  return words.join(" · ");
}

function draw(node, root, { a_images: first, b_images: second, images: difference, cvl_report: reports }) {
  const pairs = Math.min(first?.length ?? 0, second?.length ?? 0);
  if (!pairs) return null;
  const report = JSON.parse(reports?.[0] ?? "{}");
  let place = 0, different = false;
  const head = tag("div", "cvl-row"), said = tag("span", "cvl-said"), room = { stage: null };
  const before = tag("button", "cvl-before", "‹"), count = tag("span", "cvl-count"), next = tag("button", "cvl-next", "›");
  const mode = tag("button", "cvl-mode", t("difference"));
  before.title = t("the pair before");
  next.title = t("the next pair");
  mode.title = t("where the two differ, brightened");
  const show = () => {
    const stage = different ? plain(difference[place]) : slider(first[place], second[place]);
    if (room.stage) room.stage.replaceWith(stage);
    else root.append(head, stage);
    room.stage = stage;
    said.textContent = pairLine(report, place);
    count.textContent = `${place + 1} / ${pairs}`;
    mode.setAttribute("aria-pressed", String(different));
  };
  const turn = (step) => {
    place = (place + step + pairs) % pairs;
    show();
  };
  before.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  mode.addEventListener("click", () => {
    different = !different;
    show();
  });
  head.append(said);
  if (difference?.length) head.append(mode);
  if (pairs > 1) head.append(before, count, next);
  show();
  const [height, columns] = report.size_px ?? [1, 1];
  return (width) => HEAD_PX + Math.min(MOST_STAGE_PX, Math.max(LEAST_STAGE_PX, (width * height) / columns));
}

showOnNodes("clip-vae-lora.compare", ["CVL_CompareImages"], { widget: "cvl_compare", draw, width: 320 });
