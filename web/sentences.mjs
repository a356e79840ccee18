// Sentences that the server made, in another language: templates such as "{} of {} modules" say how. Pure: nothing of the
// page is touched here.

const HOLE = /\{(\d*)(?::[^{}]*)?\}/g; // what a template leaves open
const WORD = /[A-Za-z][\w'’-]*/g;
const ENGLISH = /(?<![\w./\\-])[a-z]{2,}(?![\w/\\-]|\.\w)/g; // words, not names of files or of parts of a network
const NAMES = new Set("px kohya peft diffusers lycoris safetensors".split(" ")); // the same in every language
const QUOTED = /"[^"\n]*"/g; // of several words: a user's, as a rule
const PLURAL = /^e?s$/;
const STOP = new Set("a an and as at by for from has in is it its of or the to with while".split(" ")); // these alone say little
const SIGN = /^(?:[✖✗⚠✓✔•·–-]|\d+[.)])\s+/u; // a sign before a sentence
const MOST_TRIED = 8; // templates that fit a line, of which the best is taken
const MOST_CUTS = 4; // places of one sign where a line is tried to be cut; with more it is a list
const MOST_DEEP = 6;
const MOST_KEPT = 4000; // lines that are remembered
const LONGEST = 2000; // letters of a line; longer ones are data
const COUNT = /^\S*(?: %)?$/; // what "{} alike" can be said of: 3, or 73.6 %
const NUMBERED = /^(.+?) (\d[\d.,]*)$/s; // "text 8": a known word, and how many
const SPLITS = [ // where a line that fits no template as a whole may be cut, and what stands there then
  ["; ", "；"], [". ", "。"], [": ", "："], [", ", "，"], [" | ", " | "], [" · ", " · "], [" + ", " + "], [" and ", " 和 "], [" or ", " 或 "],
];
const RANKED = [ // a user's own word with its score: a share, or a cosine, which has three decimals
  /^(?:\d+[.)] +)?(?<own>\S.*): -?(?:[\d.,]+ ?%|\d\.\d{3})$/u,
  /^(?<own>\S.*): [\d.]+%, cosine -?[\d.]+, leads by [\d.]+%$/u,
  /^.* \(nearest: (?<own>\S.*), [\d.]+%, cosine -?[\d.]+, leads by [\d.]+%\)$/u,
  /^#\d+: (?!nearest is |no answer,)(?<own>\S.*?)(?:, [\d.]+%| \(-?\d\.\d{3}\))$/u,
];
const NAME = /[\d_.\/\\:A-Z\[\]"'“”]/; // what "a and b" must have on both sides to be a list of names and no words of a user

/** The constant text around a template's holes, and which value goes where. */
function parsed(template) {
  const texts = [], order = [];
  let from = 0, next = 0;
  for (const hole of template.matchAll(HOLE)) {
    texts.push(template.slice(from, hole.index));
    order.push(hole[1] === "" ? next++ : Number(hole[1]));
    from = hole.index + hole[0].length;
  }
  texts.push(template.slice(from));
  return { texts, order };
}

/** The words of a template that a line has to have whole: those that touch no hole. */
function wholeWords(texts) {
  return texts.flatMap((text, place) => [...text.matchAll(WORD)]
    .filter(({ 0: word, index }) => (place === 0 || index > 0) && (place === texts.length - 1 || index + word.length < text.length))
    .map(([word]) => word));
}

/** The word in a line that is its user's own, beside a score. */
function ownWord(line) {
  for (const pattern of RANKED) {
    const own = pattern.exec(line)?.groups.own;
    if (own) return own;
  }
  return null;
}

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** The templates by their rarest word, and the sentences without holes. */
function indexed(table) {
  const exact = new Map(), templates = [], count = new Map();
  for (const [english, there] of Object.entries(table)) {
    exact.set(english, there);
    const { texts, order } = parsed(english);
    if (texts.length === 1) continue;
    const words = [...new Set(wholeWords(texts))];
    for (const word of words) count.set(word, (count.get(word) ?? 0) + 1);
    const own = english.replace(HOLE, " ").match(WORD) ?? [];
    const weak = own.every((word) => STOP.has(word)), counts = own.length === 1 && /^\{\d*\} [A-Za-z]/.test(english);
    templates.push({ texts, order, words, weak, counts, there: parsed(there), letters: texts.join("").length, patterns: null });
  }
  const byWord = new Map(), always = [];
  for (const template of templates) {
    const rarest = template.words.sort((a, b) => count.get(a) - count.get(b))[0];
    if (!rarest) always.push(template);
    else if (byWord.has(rarest)) byWord.get(rarest).push(template);
    else byWord.set(rarest, [template]);
  }
  return { exact, byWord, always: always.filter(({ letters }) => letters > 3) };
}

/** The patterns of a template: with holes as short as can be, and as long. An ending of the plural is one by itself. */
function patternsOf({ texts }) {
  const made = (hole) => new RegExp(`^${texts.slice(0, -1).map((text, place) => escaped(text) +
    (/[A-Za-z]$/.test(text) && place + 2 < texts.length && texts[place + 1] === "" ? "(e?s|)" : hole)).join("")}${escaped(texts.at(-1))}$`, "s");
  return texts.length > 2 ? [made("(.*?)"), made("(.*)")] : [made("(.*)")];
}

/** What a template leaves open in a line, by place, in each way that it fits. Compiled when first asked. */
function captures(template, line) {
  let from = 0;
  for (const text of template.texts) {
    const at = line.indexOf(text, from);
    if (at < 0) return [];
    from = at + text.length;
  }
  template.patterns ??= patternsOf(template);
  const found = template.patterns.map((pattern) => pattern.exec(line)?.slice(1)).filter(Boolean);
  if (found.length > 1 && found[0].every((value, hole) => value === found[1][hole])) found.pop();
  const own = template.texts.filter((text) => text.trim().length > 4);
  const isOne = (held) => !held.some((value) => own.length && own.every((text) => value.includes(text))); // and not several in a row
  return found.filter((held) => isOne(held) && (!template.counts || COUNT.test(held[0].trim()))).map((held) => {
    const values = [];
    template.order.forEach((place, hole) => {
      const before = template.texts[hole], value = held[hole];
      values[place] = { value: /\w$/.test(before) && PLURAL.test(value) ? "" : value, quoted: /["'“`]$/.test(before) };
    });
    return values;
  });
}

/**
 * A function that says an English line with the words of a table, as far as the table has them.
 * @param {Object<string, string>} table templates, English: other; "{}" are filled in their order, "{1}" by place
 * @returns {(line: string) => string}
 */
export function translator(table) {
  const { exact, byWord, always } = indexed(table);
  const kept = new Map();

  const left = (text) => (text.match(ENGLISH) ?? []).filter((word) => !NAMES.has(word)).length;

  function filled({ texts, order }, values, depth, own) {
    return texts.map((text, place) => {
      if (place === texts.length - 1) return text;
      const { value = "", quoted = false } = values[order[place]] ?? {};
      return text + (quoted || own && value.includes(own) ? value : whole(value, depth + 1));
    }).join("");
  }

  function byTemplate(line, depth, own) {
    const fitting = [];
    const near = new Set((line.match(WORD) ?? []).flatMap((word) => byWord.get(word) ?? []));
    for (const template of [...near, ...always]) {
      for (const values of captures(template, line)) fitting.push({ template, values });
    }
    fitting.sort((a, b) => b.template.letters - a.template.letters);
    return fitting.slice(0, MOST_TRIED).map(({ template, values }) => ({ ...template, said: filled(template.there, values, depth, own) }))
      .filter(({ weak, said }) => !weak || !left(said)).map(({ said }) => said);
  }

  function byCut(line, depth) {
    const found = [];
    for (const [cut, joint] of SPLITS) {
      const parts = line.split(cut), names = / (?:and|or) /.test(cut);
      if (parts.length < 2 || parts.length > 200 || names && !parts.every((part) => NAME.test(part))) continue;
      const ways = parts.length > MOST_CUTS ? [parts, [parts[0], parts.slice(1).join(cut)]]
        : parts.slice(1).map((_, place) => [parts.slice(0, place + 1).join(cut), parts.slice(place + 1).join(cut)]);
      for (const way of ways) {
        const said = way.map((part) => whole(part, depth + 1));
        if (names || said.some((part, place) => part !== way[place])) found.push(said.join(joint));
      }
    }
    const [, named, number] = NUMBERED.exec(line) ?? [];
    if (exact.has(named)) found.push(`${exact.get(named)} ${number}`);
    const [, before, inside, after] = /^(.+?) \((.+)\)(.*)$/s.exec(line) ?? [];
    if (inside) {
      const said = exact.get(`(${inside})`) ?? `（${whole(inside, depth + 1)}）`;
      found.push(`${whole(before, depth + 1)}${said}${whole(after, depth + 1)}`);
    }
    return found;
  }

  function best(line, depth) {
    if (exact.has(line)) return exact.get(line);
    let found = line, least = left(line);
    if (line.length > LONGEST || !least) return line;
    const [sign] = SIGN.exec(line) ?? [""], own = ownWord(line);
    for (const ways of own ? [byTemplate] : [byTemplate, byCut]) {
      for (const said of ways(line, depth, own)) {
        const now = left(said) - (ways === byTemplate ? 0.5 : 0); // a word may be the same in both
        if (now < least) [found, least] = [said, now];
      }
      if (least <= 0) break;
    }
    const signed = sign && !own ? sign + whole(line.slice(sign.length), depth) : found;
    return left(signed) < least ? signed : found;
  }

  function whole(text, depth) {
    const line = text.trim();
    if (!line || depth > MOST_DEEP) return text; // which is not kept: less deep there is more to say
    if (!kept.has(line)) {
      if (kept.size >= MOST_KEPT) kept.clear();
      kept.set(line, best(line, depth));
    }
    const start = text.indexOf(line);
    return text.slice(0, start) + kept.get(line) + text.slice(start + line.length);
  }

  /** A line whose quotations stay as they are, where more of it can be said so. */
  function aroundQuoted(line) {
    const held = [];
    const masked = line.replace(QUOTED, (part) => (part.includes(" ") ? `"\uE002${held.push(part.slice(1, -1)) - 1}\uE003"` : part));
    const plain = whole(line, 0), said = held.length ? whole(masked, 0) : plain;
    if (!held.length || left(said) > left(plain)) return plain;
    return said.replace(/\uE002(\d+)\uE003/g, (_, place) => held[place]);
  }

  return (text) => text.split("\n").map(aroundQuoted).join("\n");
}

/** Says a text with `say`, all but some parts of it: longer ones first, for a shorter one may be a part of them. */
export function sayAround(say, text, own) {
  const held = [];
  let masked = text;
  for (const part of [...own].sort((a, b) => b.length - a.length)) {
    if (!part || !masked.includes(part)) continue;
    const whole = new RegExp(`(?<![A-Za-z])${escaped(part)}(?![A-Za-z])`, "g");
    masked = masked.replace(whole, `\uE000${held.length}\uE001`); // no letters: nothing of it is taken for a word
    held.push(part);
  }
  return say(masked).replace(/\uE000(\d+)\uE001/g, (whole, place) => held[place] ?? whole);
}
