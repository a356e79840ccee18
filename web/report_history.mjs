// Reports of nodes for which a run sent nothing, because the server had their results already: they are in its history,
// with the run in which the same node, fed by the same nodes, ran last.
import { api } from "../../scripts/api.js";

const MOST_RUNS = 16; // newest first

/** What a node of a prompt computes: its kind, its values, and the same of all that feed it. */
function signature(prompt, id, known = new Map()) {
  if (known.has(id)) return known.get(id);
  known.set(id, "a circle");
  const { class_type: kind, inputs = {} } = prompt[id] ?? {};
  const value = (given) => (Array.isArray(given) && given.length === 2 && prompt[given[0]]
    ? [signature(prompt, given[0], known), given[1]] : given);
  const read = Object.keys(inputs).sort().map((name) => [name, value(inputs[name])]);
  known.set(id, JSON.stringify([kind, read]));
  return known.get(id);
}

/** The messages of nodes of a run that has ended: `{graph, prompt, found}`, found: path -> message. Null where the
 * server does not tell. */
export async function messagesOf(run, paths) {
  let entries;
  try {
    entries = Object.entries(await (await api.fetchApi(`/history?max_items=${MOST_RUNS}`)).json());
  } catch {
    return null; // the server is gone: the reports that are there stay
  }
  const [, , prompt, { extra_pnginfo: info } = {}] = entries.find(([id]) => id === run)?.[1].prompt ?? [];
  if (!prompt) return null;
  const earlier = entries.map(([, entry]) => entry).sort((a, b) => b.prompt[0] - a.prompt[0]);
  const found = new Map(), own = new Map();
  const seen = earlier.map((entry) => ({ entry, known: new Map() }));
  for (const path of paths) {
    const wanted = signature(prompt, path, own);
    for (const { entry, known } of seen) {
      const same = Object.keys(entry.outputs ?? {}).find((id) => signature(entry.prompt[2], id, known) === wanted);
      if (same) found.set(path, entry.outputs[same]);
      if (same) break;
    }
  }
  return { graph: info?.workflow, prompt, found };
}

/** The workflow that a running or a finished prompt was made of. */
export async function workflowOf(prompt) {
  const read = async (route) => (await api.fetchApi(route)).json();
  try {
    const running = (await read("/queue")).queue_running?.find((entry) => entry[1] === prompt);
    const entry = running ?? (await read(`/history/${prompt}`))[prompt]?.prompt;
    return entry?.[3]?.extra_pnginfo?.workflow ?? null;
  } catch {
    return null; // the server is gone
  }
}
