// How charts, galleries and the slider look: the theme's own colours, letters of 12 px.

const STYLE = `
.cvl-pictures { box-sizing: border-box; width: 100%; height: 100%; overflow: hidden; display: flex;
  flex-direction: column; gap: 4px; font: 12px/1.35 sans-serif; color: var(--input-text, #ddd); }
.cvl-pictures * { box-sizing: border-box; }
.cvl-pictures button { font: inherit; color: inherit; background: var(--comfy-input-bg, #222); cursor: pointer;
  border: 1px solid var(--border-color, #555); border-radius: 4px; padding: 1px 8px; line-height: 18px; }
.cvl-pictures button[aria-pressed="true"] { background: #2f6fb5; color: #fff; }
.cvl-pictures .cvl-row { display: flex; align-items: center; gap: 6px; min-height: 24px; flex: none; }
.cvl-pictures .cvl-row .cvl-said { flex: 1; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.cvl-pictures .cvl-scroll { flex: 1 1 auto; overflow-y: auto; overflow-x: hidden; min-height: 0; }
.cvl-pictures .cvl-stage { position: relative; flex: 1 1 auto; min-height: 180px; background: #0004;
  border-radius: 4px; overflow: hidden; touch-action: none; cursor: ew-resize; outline-offset: -2px; }
.cvl-pictures .cvl-stage img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain;
  user-select: none; -webkit-user-drag: none; }
.cvl-pictures .cvl-stage .cvl-edge { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 3px #000; pointer-events: none; }
.cvl-pictures .cvl-stage .cvl-side { position: absolute; top: 4px; padding: 0 6px; border-radius: 3px;
  background: #000a; color: #fff; pointer-events: none; }
.cvl-pictures .cvl-cards { display: grid; gap: 6px; align-content: start; }
.cvl-pictures .cvl-title { grid-column: 1 / -1; font-weight: 600; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; line-height: 18px; }
.cvl-pictures .cvl-card { position: relative; border: 2px solid transparent; border-radius: 5px;
  background: var(--comfy-input-bg, #222); overflow: hidden; height: 160px; display: flex; flex-direction: column; }
.cvl-pictures .cvl-card[data-out] img { opacity: 0.55; }
.cvl-pictures .cvl-card[data-kept] { border-color: #3c9a5f; }
.cvl-pictures .cvl-card[data-picked] { border-color: #4a90e2; }
.cvl-pictures .cvl-card img { flex: 1 1 0; width: 100%; min-height: 0; object-fit: contain; }
.cvl-pictures .cvl-card .cvl-name, .cvl-pictures .cvl-card .cvl-score { padding: 0 4px; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; flex: none; line-height: 16px; }
.cvl-pictures .cvl-card .cvl-score { opacity: 0.8; }
.cvl-pictures .cvl-card .cvl-mark { position: absolute; top: 4px; left: 4px; min-width: 20px; padding: 0 5px;
  border-radius: 10px; background: #2f6fb5; color: #fff; text-align: center; }
.cvl-pictures .cvl-card a { position: absolute; top: 4px; right: 4px; padding: 0 6px; border-radius: 3px;
  background: #000a; color: #fff; text-decoration: none; }
.cvl-pictures .cvl-bars { display: grid; grid-template-columns: minmax(40px, max-content) 1fr max-content;
  column-gap: 6px; align-items: center; }
.cvl-pictures .cvl-bars > * { height: 20px; line-height: 20px; }
.cvl-pictures .cvl-bars .cvl-label { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 180px;
  text-align: right; }
.cvl-pictures .cvl-bars .cvl-track { height: 12px; border-radius: 3px;
  background: color-mix(in srgb, var(--input-text, #ddd) 14%, transparent); position: relative; }
.cvl-pictures .cvl-bars .cvl-fill { height: 100%; border-radius: 3px; background: #6b7c93; }
.cvl-pictures .cvl-bars .cvl-fill[data-first] { background: #3f8fd8; }
.cvl-pictures .cvl-bars .cvl-line { position: absolute; top: -3px; bottom: -3px; width: 2px; background: #d9822b; }
.cvl-pictures .cvl-bars .cvl-value { text-align: right; font-variant-numeric: tabular-nums; }
.cvl-pictures .cvl-heat { border-collapse: separate; border-spacing: 2px; table-layout: auto; }
.cvl-pictures .cvl-heat th { font-weight: 400; text-align: right; max-width: 150px; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; padding: 0 4px; }
.cvl-pictures .cvl-heat thead th { text-align: center; max-width: 90px; }
.cvl-pictures .cvl-heat td { min-width: 46px; height: 26px; text-align: center; border-radius: 3px;
  font-variant-numeric: tabular-nums; }
.cvl-pictures .cvl-heat td[data-best] { outline: 2px solid var(--input-text, #ddd); outline-offset: -2px;
  font-weight: 700; }
.cvl-pictures .cvl-heat-room { overflow: auto; }
.cvl-pictures .cvl-tokens { display: flex; flex-wrap: wrap; gap: 3px; align-content: start; }
.cvl-pictures .cvl-tokens span { padding: 0 5px; border: 1px solid var(--border-color, #555); border-radius: 3px;
  line-height: 20px; }
.cvl-pictures .cvl-curves { display: grid; grid-template-columns: max-content 1fr; grid-template-rows: 18px 90px 18px;
  column-gap: 4px; line-height: 18px; }
.cvl-pictures .cvl-curves .cvl-legend { grid-column: 2; display: flex; gap: 12px; overflow: hidden; }
.cvl-pictures .cvl-curves .cvl-legend span { min-width: 0; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
.cvl-pictures .cvl-curves .cvl-legend span::before { content: ""; display: inline-block; width: 14px; height: 3px;
  margin: 0 5px 3px 0; background: var(--cvl-tone); }
.cvl-pictures .cvl-curves .cvl-scale { grid-column: 1; display: flex; flex-direction: column; line-height: 14px;
  justify-content: space-between; text-align: right; font-variant-numeric: tabular-nums; }
.cvl-pictures .cvl-curves svg { grid-column: 2; width: 100%; height: 100%;
  background: color-mix(in srgb, var(--input-text, #ddd) 8%, transparent); border-radius: 3px; }
.cvl-pictures .cvl-curves path, .cvl-pictures .cvl-curves line { fill: none; vector-effect: non-scaling-stroke; }
.cvl-pictures .cvl-curves path { stroke: var(--cvl-tone); stroke-width: 1.8px; }
.cvl-pictures .cvl-curves .cvl-border { stroke: currentColor; stroke-dasharray: 4 3; opacity: 0.5; }
.cvl-pictures .cvl-curves .cvl-axis { grid-column: 2; display: flex; justify-content: space-between; }
.cvl-pictures .cvl-samples { display: grid; grid-template-columns: repeat(4, 1fr); gap: 4px; align-content: start; }
.cvl-pictures .cvl-samples a { color: inherit; text-decoration: none; text-align: center; min-width: 0; line-height: 18px; }
.cvl-pictures .cvl-samples img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; }
.cvl-pictures .cvl-samples span { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.cvl-pictures [data-tone="good"] { --cvl-tone: #3c9a5f; }
.cvl-pictures [data-tone="warm"] { --cvl-tone: #d9822b; }
.cvl-pictures [data-tone="cold"] { --cvl-tone: #3f8fd8; }
.cvl-pictures [data-tone="faint"] { --cvl-tone: color-mix(in srgb, var(--input-text, #ddd) 28%, transparent); }
`;

/** Puts the style into the page, once. */
export function installStyle() {
  if (document.getElementById("cvl-pictures-style")) return;
  const style = document.createElement("style");
  style.id = "cvl-pictures-style";
  style.textContent = STYLE;
  document.head.append(style);
}
