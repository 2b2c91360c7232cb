// A recording's calls: who called whom and what each allocated, as typed arrays, added up. Free of the page.
//
// A call's number is its place in the recording: its caller's is smaller, and the first is the root. No function here
// calls itself, for a tree is as deep as the program made it.
import { varints } from './columns.js';

export const AMOUNTS = ['peak', 'retained', 'allocated'];

export class Calls {
  // `column`: name -> bytes, or null where an island is damaged.
  constructor(column) {
    this.problem = null;
    try {
      this.problem = this.decode(column);
    } catch (error) {
      this.problem = String(error?.message ?? error);
    }
    if (this.problem !== null) this.fill([], [], []);
  }

  decode({ functions, tree, own }) {
    if (!functions || !tree || !own) return 'the calls of this file are damaged';
    const named = JSON.parse(new TextDecoder().decode(functions));
    const [way, amounts] = [varints(tree), varints(own)];
    if (!Array.isArray(named) || !way || !amounts || way.length % 3 !== 0 || amounts.length !== 2 * way.length) return 'the calls of this file are damaged';
    this.fill(named, way, amounts);
    return null;
  }

  fill(named, way, amounts) {
    const n = way.length / 3;
    this.count = n;
    this.functions = named.map(([name, file, line]) => ({ name: String(name), file: String(file), line: Number(line) || 0 }));
    this.parent = new Uint32Array(n);
    this.function = new Uint32Array(n);
    this.line = new Uint32Array(n);
    this.depth = new Uint32Array(n);
    this.own = Object.fromEntries(AMOUNTS.map((a) => [a, new Float64Array(n)]));
    this.blocks = Object.fromEntries(AMOUNTS.map((a) => [a, new Float64Array(n)]));
    for (let i = 0; i < n; i++) {
      // What is no number of an earlier call is the root's.
      const parent = i - way[3 * i];
      this.parent[i] = parent >= 0 && parent < i ? parent : 0;
      this.depth[i] = i === 0 ? 0 : this.depth[this.parent[i]] + 1;
      this.function[i] = way[3 * i + 1];
      this.line[i] = way[3 * i + 2];
      AMOUNTS.forEach((a, k) => {
        this.blocks[a][i] = amounts[6 * i + 2 * k];
        this.own[a][i] = amounts[6 * i + 2 * k + 1];
      });
    }
    this.total = Object.fromEntries(AMOUNTS.map((a) => [a, this.summed(a)]));
    this.order();
  }

  // What each call and all that it called allocated.
  summed(amount) {
    const sums = this.own[amount].slice();
    for (let i = this.count - 1; i > 0; i--) sums[this.parent[i]] += sums[i];
    return sums;
  }

  // The calls that each call made: those of `i` are `called` from `first[i]` to `first[i + 1]`.
  order() {
    this.first = new Uint32Array(this.count + 1);
    for (let i = 1; i < this.count; i++) this.first[this.parent[i] + 1] += 1;
    for (let i = 0; i < this.count; i++) this.first[i + 1] += this.first[i];
    this.called = new Uint32Array(this.count > 0 ? this.count - 1 : 0);
    const next = this.first.slice();
    for (let i = 1; i < this.count; i++) this.called[next[this.parent[i]]++] = i;
  }

  children(call) {
    return this.called.subarray(this.first[call], this.first[call + 1]);
  }

  // A call's function; one that says so where the recording does not have it.
  of(call) {
    if (call === 0) return ALL;
    return this.functions[this.function[call]] ?? UNKNOWN;
  }

  lineOf(call) {
    return this.line[call] || this.of(call).line;
  }

  // The way to a call, the root first.
  stack(call) {
    const way = [call];
    for (let at = call; at !== 0; at = this.parent[at]) way.push(this.parent[at]);
    return way.reverse();
  }

  // The functions that have all the words in their name or path; null where there are no words.
  seek(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length === 0) return null;
    return this.functions.map(({ name, file }) => {
      const all = (functionName({ name, file }) + '\n' + file).toLowerCase();
      return words.every((word) => all.includes(word));
    });
  }

  // What calls of these functions allocated with all that they called, each byte once; and how many calls they are.
  heldBy(found, amount) {
    const within = new Uint8Array(this.count);
    let [bytes, calls] = [0, 0];
    for (let i = 0; i < this.count; i++) {
      const is = i > 0 && found[this.function[i]] === true;
      if (is) calls += 1;
      within[i] = is || (i > 0 && within[this.parent[i]]) ? 1 : 0;
      if (within[i]) bytes += this.own[amount][i];
    }
    return { bytes, calls };
  }

  // What each line of each function allocated itself, wherever it was called from.
  places() {
    const rows = new Map();
    for (let i = 0; i < this.count; i++) {
      const line = this.line[i] || (this.functions[this.function[i]]?.line ?? 0);
      const key = this.function[i] + ':' + line;
      let row = rows.get(key);
      if (!row) {
        const { name, file } = this.functions[this.function[i]] ?? UNKNOWN;
        row = { name: functionName({ name, file }), file: shortPath(file), line, bytes: { peak: 0, retained: 0, allocated: 0 }, blocks: { peak: 0, retained: 0, allocated: 0 } };
        rows.set(key, row);
      }
      for (const a of AMOUNTS) {
        row.bytes[a] += this.own[a][i];
        row.blocks[a] += this.blocks[a][i];
      }
    }
    return [...rows.values()].filter((row) => AMOUNTS.some((a) => row.bytes[a] > 0 || row.blocks[a] > 0));
  }
}

const ALL = { name: 'all calls', file: '', line: 0 };
const UNKNOWN = { name: '?', file: '', line: 0 };

// What stands for a function without a name: whatever is no Python code's. As in the text report.
export function functionName({ name }) {
  return name === '' ? '(outside Python)' : name;
}

// A path without what every file of its sort has in front. As in the text report.
export function shortPath(path) {
  for (const folder of ['/site-packages/', '/dist-packages/']) {
    const at = path.lastIndexOf(folder);
    if (at >= 0) return path.slice(at + folder.length);
  }
  const library = /^.*\/lib\/python3\.[^/]*\/(.+)$/s.exec(path);
  return library ? library[1] : path;
}

// Whose code it is: own | package | library | outside.
export function sortOf({ file }) {
  if (file === '') return 'outside';
  if (/\/(site|dist)-packages\//.test(file)) return 'package';
  return /\/lib\/python3\.[^/]*\//.test(file) || file.startsWith('<frozen ') ? 'library' : 'own';
}
