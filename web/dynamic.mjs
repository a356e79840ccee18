// What the front end makes of a prompt before it sends it: {a|b} becomes one of them, // and /* */ are left out.
// As in its extension Comfy.DynamicPrompts (1.27, 1.49 and 1.58 are alike), but always with the first choice.

const COMMENT = /\/\*[^]*?\*\/|\/\/.*/g;
const PIECES = /\\[^]?|[{}|]|[^\\{}|]+/g;
const ESCAPED = /\\([{}|])/g;

/** A prompt as it is sent where every choice falls on the first: {text, drawn: it has choices, cut: it has comments}. */
export function sentText(typed) {
  const bare = typed.replace(COMMENT, "");
  const found = { drawn: false, cut: bare !== typed };
  let text = "", choice = "", depth = 0, number = 0;
  const close = () => {
    const inner = sentText(choice);
    text += inner.text;
    found.drawn ||= number > 0 || inner.drawn;
    Object.assign(found, { cut: found.cut || inner.cut });
    [choice, depth, number] = ["", 0, 0];
  };
  for (const piece of bare.match(PIECES) ?? []) {
    const said = piece === "\\" ? "\\undefined" : piece; // so the front end sends a last backslash
    if (depth === 0) {
      if (piece === "{") depth = 1;
      else text += said;
    } else if (piece === "}" && depth === 1) {
      close();
    } else if (piece === "|" && depth === 1) {
      number += 1;
    } else {
      depth += piece === "{" ? 1 : piece === "}" ? -1 : 0;
      if (number === 0) choice += said;
    }
  }
  if (depth > 0) close();
  return { ...found, text: text.replace(ESCAPED, "$1") };
}
