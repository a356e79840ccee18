// Search Images, Find Duplicates, Rank Images: the pictures themselves with names and scores; a click picks one by hand.
import { copied } from "./clipboard.mjs";
import { letDrag, takeDrops } from "./gallery_drag.mjs";
import { addressOf, showOnNodes, tag } from "./gallery_home.mjs";
import { picksOf, writePicks } from "./gallery_picks.mjs";
import { t } from "./words.mjs";

const CARD_PX = { width: 124, height: 160, gap: 6 };
const TITLE_PX = 24, HEAD_PX = 28, MOST_PX = 520; // higher ones scroll

function card(picture) {
  const made = tag("div", "cvl-card"), image = tag("img", "");
  image.src = addressOf(picture.image);
  image.alt = image.title = picture.name;
  image.loading = "lazy";
  image.decoding = "async";
  letDrag(made, image, picture.image, image.src);
  const name = tag("div", "cvl-name", picture.label ?? picture.name), open = tag("a", "", "↗");
  name.title = picture.name;
  open.href = image.src;
  open.target = "_blank";
  open.rel = "noopener";
  open.title = t("Open the picture itself");
  made.append(image, name, tag("div", "cvl-score", picture.score ?? ""), open);
  if (picture.kept) made.dataset.kept = "";
  if (picture.kept === false) made.dataset.out = "";
  for (const kind of ["pointerdown", "click"]) open.addEventListener(kind, (event) => event.stopPropagation());
  made.addEventListener("pointerdown", (event) => event.stopPropagation()); // picks or drags a picture, not the node
  return made;
}

/** Marks the cards that are picked, with their place among the picks. */
function mark(cards, picks) {
  for (const [made, picture] of cards) {
    const place = picks.indexOf(String(picture.key));
    made.querySelector(".cvl-mark")?.remove();
    made.toggleAttribute("data-picked", place >= 0);
    made.setAttribute("aria-pressed", String(place >= 0));
    if (place >= 0) made.append(tag("span", "cvl-mark", String(place + 1)));
  }
}

function pickByHand(node, cards, head) {
  const said = tag("span", "cvl-said"), clear = tag("button", "cvl-clear", t("automatic"));
  clear.title = t("Forget what was picked by hand");
  const show = () => {
    const picks = picksOf(node);
    mark(cards, picks);
    said.textContent = picks.length ? t("{} picked by hand: run again to use them", picks.length) : t("Click a picture to pick it");
    clear.style.display = picks.length ? "" : "none";
  };
  for (const [made, picture] of cards) {
    made.style.cursor = "pointer";
    made.addEventListener("click", () => {
      const picks = picksOf(node), key = String(picture.key);
      writePicks(node, picks.includes(key) ? picks.filter((one) => one !== key) : [...picks, key]);
      show();
    });
  }
  clear.addEventListener("click", () => {
    writePicks(node, []);
    show();
  });
  head.append(said, clear);
  show();
}

function copyNames(groups, head) {
  const names = groups.flatMap(({ pictures }) => pictures.slice(1).map(({ name }) => name));
  const copy = tag("button", "cvl-copy", t("copy the names of the copies"));
  copy.addEventListener("click", async () => {
    copy.textContent = await copied(names.join("\n")) ? t("copied") : t("not copied");
  });
  head.append(tag("span", "cvl-said", t("{} more than needed; nothing is deleted", names.length)), copy);
}

function draw(node, root, { cvl_gallery: groups }) {
  if (!groups?.some(({ pictures }) => pictures.length)) return null;
  const head = tag("div", "cvl-row"), room = tag("div", "cvl-scroll"), grid = tag("div", "cvl-cards"), cards = [];
  for (const { title, pictures } of groups) {
    if (title) grid.append(tag("div", "cvl-title", title));
    for (const picture of pictures) {
      const made = card(picture);
      cards.push([made, picture]);
      grid.append(made);
    }
  }
  room.append(grid);
  root.append(head, room);
  if (node.comfyClass === "CVL_FindDuplicates") copyNames(groups, head);
  else pickByHand(node, cards, head);
  return (width) => {
    const columns = Math.max(1, Math.floor((width + CARD_PX.gap) / (CARD_PX.width + CARD_PX.gap)));
    grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`; // as many as are counted: a page's margins differ
    const rows = groups.reduce((sum, { pictures }) => sum + Math.ceil(pictures.length / columns), 0);
    const titles = groups.filter(({ title }) => title).length;
    return HEAD_PX + Math.min(MOST_PX, rows * (CARD_PX.height + CARD_PX.gap) + titles * TITLE_PX);
  };
}

const KINDS = ["CVL_SearchImages", "CVL_FindDuplicates", "CVL_RankImages"];
showOnNodes("clip-vae-lora.gallery", KINDS, { widget: "cvl_gallery", draw, width: 400 });
takeDrops();
