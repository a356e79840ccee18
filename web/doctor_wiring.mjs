// Which output of a node goes into which input of a Doctor. Pure: nothing of the page is touched here.

const ANY = "*";

/** The types of a slot, one or several ("MODEL,CLIP"); none for a menu or an event. */
function typesOf(type) {
  return typeof type === "string" ? type.split(",").map((one) => one.trim()).filter(Boolean) : [];
}

/** The first free input that takes one of these types; the one for anything only where the type itself is not known. */
function takenBy(types, free) {
  const own = free.find((input) => input.type !== ANY && types.includes(input.type));
  return own ?? (types.includes(ANY) ? free.find((input) => input.type === ANY) : undefined);
}

/**
 * What to connect, a list for each Doctor that is needed: two LATENT outputs need two of them.
 * @param {{type: string}[]} outputs
 * @param {{name: string, type: string}[]} inputs those of a Doctor
 * @returns {{output: number, input: string}[][]}
 */
export function planWires(outputs, inputs) {
  const doctors = [], free = [];
  outputs.forEach(({ type }, output) => {
    const types = typesOf(type);
    if (!takenBy(types, inputs)) return;
    let at = free.findIndex((some) => takenBy(types, some));
    if (at < 0) at = free.push([...inputs]) - 1;
    const { name } = takenBy(types, free[at]);
    free[at] = free[at].filter((input) => input.name !== name);
    (doctors[at] ??= []).push({ output, input: name });
  });
  return doctors;
}

/** Where a box of a size can lie right of another, below whatever lies there. Boxes are `{x, y, width, height}`. */
export function placeBeside(node, size, others, gap = 60) {
  const place = { x: node.x + node.width + gap, y: node.y, ...size };
  const meets = (other) => place.x < other.x + other.width && other.x < place.x + place.width
    && place.y < other.y + other.height && other.y < place.y + place.height;
  for (let tries = 0; tries <= others.length; tries++) {
    const hit = others.find(meets);
    if (!hit) break;
    place.y = hit.y + hit.height + gap;
  }
  return place;
}
