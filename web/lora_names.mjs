// The names of a menu of LoRAs as folders, and a search over all of them. Nothing here knows the page.

const BUNDLED = "bundled"; // the pack's own example, which fits no model of the user's: it stands last

const pathOf = (name) => name.replace(/\\/g, "/");

/** The folder of a name, "" for those that lie in none. */
export function folderOf(name) {
  const path = pathOf(name);
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

/** What lies in a folder: `folders`, each {path, name, count}, and `names`. */
export function listFolder(names, folder) {
  const before = folder ? `${folder}/` : "";
  const folders = new Map(), found = [];
  for (const name of names) {
    const path = pathOf(name);
    if (!path.startsWith(before)) continue;
    const [first, ...deeper] = path.slice(before.length).split("/");
    if (deeper.length) folders.set(first, (folders.get(first) ?? 0) + 1);
    else found.push(name);
  }
  const last = (name) => !folder && name === BUNDLED;
  const sorted = [...folders].sort(([a], [b]) => last(a) - last(b) || a.localeCompare(b));
  return { folders: sorted.map(([name, count]) => ({ path: before + name, name, count })), names: found };
}

/** The names that have every word of the search, those whose file name begins with it first. */
export function matching(names, search) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const found = names.filter((name) => words.every((word) => name.toLowerCase().includes(word)));
  const begins = (name) => (words.length && name.toLowerCase().split(/[\\/]/).pop().startsWith(words[0]) ? 0 : 1);
  return found.map((name, place) => [begins(name), place, name]).sort((a, b) => a[0] - b[0] || a[1] - b[1])
    .map(([, , name]) => name);
}
