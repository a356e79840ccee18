// What a node's report has to draw: one function for each node, from the report's JSON to a list of charts.
import { t, translated } from "./words.mjs";

const MOST_BARS = 20, MOST_PICTURES = 16, MOST_CELLS = 24, MOST_PAIRS = 8;
const COURSE_PX = 62; // of the plots of a training, of which there are two above its samples
const TONES = ["good", "warm", "cold"]; // of several curves

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const ranked = (values) => Object.entries(values).sort(([, a], [, b]) => (b ?? -2) - (a ?? -2));

function shares(values, total) {
  const all = ranked(values), rows = all.slice(0, MOST_BARS).map(([label, value]) =>
    ({ label, share: value ?? 0, text: value === null ? "-" : percent(value) }));
  return { kind: "bars", rows, more: Math.max(0, (total ?? all.length) - rows.length) };
}

const heading = (pictures, place, text) => (pictures.length > 1 ? `#${place}: ${text}` : text);

/** Numbers of any range as bars: the longest is the greatest, 0 or the least the shortest. */
function numbers(entries, line) {
  const known = entries.map(({ value }) => value).filter((value) => value !== null), all = [...known, line ?? known[0] ?? 0];
  const low = Math.min(0, ...all), high = Math.max(...all, low + 1e-9), share = (value) => (value - low) / (high - low);
  const rows = entries.map(({ label, value, mark }) =>
    ({ label, share: value === null ? 0 : share(value), text: value === null ? "-" : value.toFixed(3), mark }));
  return { kind: "bars", rows, line: line === undefined ? undefined : share(line), more: 0 };
}

function zeroShot({ pictures, label_count: count }) {
  return pictures.slice(0, MOST_PICTURES).map((picture, place) => ({ ...shares(picture.probabilities, count),
    title: heading(pictures, place, picture.none_of_these ? t("none of these; nearest: {}", picture.top[0].label) : picture.best) }));
}

function answers({ pictures }) {
  return pictures.slice(0, MOST_PICTURES).map((picture, place) => ({ ...shares(picture.probabilities),
    title: heading(pictures, place, picture.answer ?? t("no answer")) }));
}

function tags({ pictures, score }) {
  return pictures.slice(0, MOST_PICTURES).filter((found) => Object.keys(found).length).map((found, place) => ({
    ...(score === "probability" ? shares(found) : numbers(ranked(found).slice(0, MOST_BARS)
      .map(([label, value]) => ({ label, value })))),
    title: pictures.length > 1 ? `#${place}` : "" }));
}

function gate({ scores, threshold, passed }) {
  const entries = scores.slice(0, 64).map((value, place) =>
    ({ label: `#${place} ${passed.includes(place) ? "✓" : "✗"}`, value, mark: passed.includes(place) }));
  return [{ ...numbers(entries, threshold), title: t("the line is the threshold, {}", threshold) }];
}

function matrix(block, title) {
  if (!Array.isArray(block?.cosine)) return [];
  const columns = (block.columns ?? block.cosine[0].map((_, place) => `#${place}`)).slice(0, MOST_CELLS);
  const best = block.best_for_images.map((name) => (block.columns ? block.columns.indexOf(name) : name));
  const rows = block.cosine.slice(0, MOST_CELLS);
  return [{ kind: "heat", title, columns, best, rows: rows.map((row) => row.slice(0, MOST_CELLS)),
    names: rows.map((_, place) => `#${place}`) }];
}

function similarity({ texts, images }) {
  return [...matrix(texts, t("pictures and texts")), ...matrix(images, t("pictures and pictures"))];
}

function channels({ channels: all }) {
  const entries = all.slice(0, 64).map(({ kl_nats: value }, place) => ({ label: t("channel {}", place), value }));
  const chart = numbers(entries);
  const sum = all.reduce((total, { kl_nats: value }) => total + value, 0) || 1;
  chart.rows.forEach((row, place) => (row.text = percent(all[place].kl_nats / sum)));
  return [{ ...chart, title: t("how much of the picture each channel holds") }];
}

function inspected({ encoders }) {
  const charts = [];
  for (const [name, chunks] of Object.entries(encoders ?? {})) {
    for (const [place, chunk] of chunks.entries()) {
      const weights = chunk.weights.filter((_, at) => chunk.words[at]); // start, end and padding belong to no word
      const pieces = chunk.pieces.map((text, at) => ({ text: text.trim(), weight: weights[at] ?? 1 }));
      if (pieces.length) charts.push({ kind: "tokens", pieces, title: t("{}, chunk {}: {} tokens", name, place + 1, pieces.length) });
    }
  }
  return charts;
}

/** The strongest module's directions by their share of the change; the kinds in a file without a spectrum. */
function spectrum({ spectra, kinds }) {
  const [strongest] = Object.values(spectra);
  const counts = strongest ? strongest.values.map((value, place) => [t("direction {}", place + 1), value ** 2])
    : Object.entries(kinds);
  const sum = counts.reduce((total, [, count]) => total + count, 0) || 1;
  const title = strongest ? t("share of the change, by direction of the strongest part") : t("kinds in the file");
  return counts.length ? [{ ...shares(Object.fromEntries(counts.map(([label, count]) => [label, count / sum]))), title }] : [];
}

/** Each file by the size of its change relative to the weights; by its modules where a change is unknown. */
function stacked({ files }) {
  const bars = files.length === 1 ? Object.entries(files[0].blocks).map(([block, bar]) => [translated(block), bar])
    : files.map((one, place) => [`${place + 1}. ${one.file}`, one]);
  const known = bars.every(([, bar]) => typeof bar.change === "number");
  const sizes = bars.map(([label, bar]) => [label, known ? bar.change : bar.applied ?? bar.modules]);
  const all = known ? 1 : sizes.reduce((total, [, size]) => total + size, 0) || 1;
  const title = known ? t("size of the change relative to the weights") : t("share of the modules");
  return bars.length ? [{ ...shares(Object.fromEntries(sizes.map(([label, size]) => [label, size / all]))), title }] : [];
}

/** One LoRA by block; nothing where none was put on. */
const loaded = (data) => (data.blocks ? stacked({ files: [data] }) : []);

/** Two prompts token by token: how alike, and how long their vectors are. Lengths go by their logarithm, because the
 * start token is some twenty times longer than the others. */
function compared({ entries }) {
  return entries.slice(0, MOST_PAIRS).flatMap(({ cosine, first_length: first, second_length: second, chunk_borders: borders }, place) => {
    const lengths = [...first, ...second].filter((value) => value !== null), log = Math.min(...lengths) > 0;
    const pair = { kind: "curves", borders, count: Math.max(first.length, second.length), from: t("token {}", 0) };
    const alike = { ...pair, low: Math.min(0, ...cosine), high: 1, series: [{ name: t("alike"), values: cosine, tone: "good" }] };
    const long = { ...pair, log, low: log ? Math.min(...lengths) : 0, high: Math.max(...lengths),
      series: [{ name: t("first"), values: first, tone: "warm" }, { name: t("second"), values: second, tone: "cold" }] };
    return [{ ...alike, title: heading(entries, place, t("how alike each token is (1: the same direction)")) },
      ...(lengths.length ? [{ ...long, title: t("length of each token's vector") }] : [])];
  });
}

/** What a smaller or an extracted file lost, by block. */
function lost({ blocks }) {
  const chart = shares(Object.fromEntries(Object.entries(blocks).map(([block, share]) => [translated(block), Math.min(1, share)])));
  return chart.rows.length ? [{ ...chart, title: t("share of each block's change that is lost") }] : [];
}

/** A file's name without its folders and its kind. */
const short = (name) => name.split("/").at(-1).replace(/\.(safetensors|ckpt|pth?|bin|sft)\b/i, "");

/** Files side by side: where each two meet, block by block, and in how many directions the change of each lies. */
function sideBySide({ files, pairs }) {
  const meetings = pairs.slice(0, MOST_PAIRS).map(({ files: two, blocks }) => {
    const known = Object.entries(blocks).filter(([, { cosine }]) => typeof cosine === "number");
    const rows = known.map(([label, { cosine }]) => ({ label: translated(label), share: Math.abs(cosine), text: cosine.toFixed(2) }))
      .sort((a, b) => b.share - a.share);
    return { kind: "bars", rows: rows.slice(0, MOST_BARS), more: Math.max(0, rows.length - MOST_BARS),
      title: pairs.length > 1 ? two.map(short).join(" · ") : t("how alike each block is (1: the same change)") };
  });
  const series = files.slice(0, TONES.length).map(({ name, spectrum: parts }, place) => {
    let sum = 0;
    return { name: short(name), values: parts.map((share) => (sum += share)), tone: TONES[place] };
  });
  const count = Math.max(0, ...series.map(({ values }) => values.length));
  const spread = { kind: "curves", borders: [], count, from: t("direction {}", 1), to: String(count), low: 0, high: 1, series,
    title: t("share of a weight's change that its first directions hold") };
  return [...meetings.filter(({ rows }) => rows.length), ...(count > 1 ? [spread] : [])];
}

/** [least, greatest] of the numbers of several curves; a band around a single one. */
function range(series) {
  const known = series.flatMap(({ values }) => values).filter((value) => value !== null);
  const low = Math.min(...known), high = Math.max(...known);
  return high > low ? { low, high } : { low: low - Math.abs(low) / 2 - 1e-6, high: high + Math.abs(high) / 2 + 1e-6 };
}

/** A training: the losses of its steps, what the validation says of each noise relative to the start, and samples. */
function course({ first, step, steps, seconds_a_step: each, losses, smoothed, validation, prompt, samples },
  [least, most] = [t("little noise"), t("much noise")], titled = prompt) {
  const end = Math.max(steps, step, 1), at = (place) => place / end;
  const curve = (name, tone, points) => ({ name, tone, at: points.map(([place]) => at(place)), values: points.map(([, value]) => value) });
  const plot = { kind: "curves", borders: [], from: t("step {}", 0), to: String(end), high_px: COURSE_PX }, charts = [];
  const title = each ? t("step {} of {}, {} s a step", step, end, each.toFixed(2)) : t("step {} of {}", step, end);
  if (losses.length) {
    const series = [curve(t("loss"), "faint", losses), curve(t("smoothed"), "cold", smoothed)];
    charts.push({ ...plot, title, series, ...range(series) });
  }
  const started = validation[0]?.bands ?? [], mean = (bands) => bands.reduce((sum, band) => sum + band, 0) / bands.length;
  const told = validation.filter(({ bands }) => bands.every((band) => typeof band === "number"));
  if (told.length && started.every((band) => band > 0)) {
    const relative = (read) => told.map(({ step: place, bands }) => [place, read(bands) / read(started)]);
    const ends = started.length < 2 ? [] : [curve(least, "cold", relative((bands) => bands[0])),
      curve(most, "warm", relative((bands) => bands.at(-1)))];
    const series = [...ends, curve(t("mean"), "good", relative(mean))];
    charts.push({ ...plot, title: t("validation, relative to the start"), series, ...range(series) });
  }
  const label = (at_step) => at_step < 0 ? t("the picture") : t("step {}", at_step);
  const newest = [...samples].sort((a, b) => (a.step < 0 ? -1 : b.step < 0 ? 1 : b.step - a.step)); // seen without scrolling
  const pictures = newest.map((sample) => ({ label: label(sample.step), image: sample }));
  return [...charts, ...(pictures.length ? [{ kind: "pictures", title: titled, pictures }] : [])];
}

/** A training of a VAE: two errors of whole pictures relative to the start, and the part that was worst before it. */
const reconstructions = (data) => course(data, [t("error"), t("error of edges")], t("the worst part, before and after"));

/** A training of a CLIP: its losses, what the validation finds, and the same on the way from before to after. */
function matches(data) {
  const [losses, ...charts] = course({ ...data, validation: [] }, [], ""), plot = { kind: "curves", borders: [], low: 0, high: 1 };
  if (losses) {
    const known = data.validation.filter(({ bands: [band] }) => typeof band === "number"), last = Math.max(data.steps, data.step, 1);
    const series = [...losses.series, { name: t("validation"), tone: "good", at: known.map(({ step }) => step / last),
      values: known.map(({ bands: [band] }) => band) }];
    charts.unshift({ ...losses, series, ...range(series) });
  }
  const found = (points, at) => [["right", t("right class"), "good"], ["to_text", t("picture finds its text"), "cold"],
    ["to_picture", t("text finds its picture"), "warm"]].map(([key, name, tone]) =>
    ({ name, tone, at: points.map(at), values: points.map((point) => point[key]) }))
    .filter(({ values }) => values.length && values.every((value) => typeof value === "number"));
  const end = Math.max(data.steps, data.step, 1), shares = found(data.judged, ({ step }) => step / end);
  if (shares.length) charts.push({ ...plot, title: t("share of right choices"), from: t("step {}", 0), to: String(end), series: shares });
  if (!data.sweep) return charts;
  const { points, best } = data.sweep, chosen = found(points, ({ share }) => share);
  const loss = [{ name: t("loss"), tone: "cold", at: points.map(({ share }) => share), values: points.map((point) => point.loss) }];
  const series = chosen.length ? chosen : loss, title = t("the way from before to after, the best is {}", best);
  return [...charts, { ...plot, ...(chosen.length ? {} : range(loss)), title, from: t("before"), to: t("after"), series }];
}

const READERS = { CVL_ZeroShotClassify: zeroShot, CVL_VisualQuestion: answers, CVL_RankTags: tags, CVL_ImageGate: gate,
  CVL_ImageTextSimilarity: similarity, CVL_LatentDistribution: channels, CVL_InspectTokens: inspected,
  CVL_LoRAInfo: spectrum, CVL_LoRAStack: stacked, CVL_LoadLoRA: loaded, CVL_CompareConditioning: compared,
  CVL_ResizeLoRA: lost, CVL_ExtractLoRA: lost, CVL_CompareLoRAs: sideBySide,
  CVL_TrainLoRA: course, CVL_TrainVAE: reconstructions, CVL_TrainCLIP: matches };

/** The charts of a node of that class, from its report's data; none where the report has nothing to draw. */
export function chartsOf(kind, data) {
  try {
    return READERS[kind]?.(data) ?? [];
  } catch (error) {
    if (error instanceof TypeError) return []; // a report of an older version without these keys
    throw error;
  }
}
