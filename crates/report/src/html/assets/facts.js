// What follows from a snapshot's numbers: the steps from RSS to live data, the ladder, who pins first, how texts of
// its parts belong together. Free of the page.
import { shown } from './text.js';

// Kinds of owners that are neither walked nor allocators, by the step that takes them off.
const FILES = ['interpreter', 'extensions', 'libraries', 'data_files', 'shared_memory'];
const STACKS = ['frame_stacks', 'thread_stacks'];
// Allocators: heaps, walked or not.
const ALLOCATORS = ['pymalloc', 'malloc', 'mimalloc', 'private', 'jemalloc', 'tcmalloc'];

const sumBy = (rows, of) => rows.reduce((sum, row) => sum + (of(row) || 0), 0);

export function isWalked(owner) {
  return typeof owner.live === 'number';
}

// Free bytes of a walked owner: those that the verdict counts.
export function freeOf(owner) {
  return isWalked(owner) ? owner.free_spans + owner.holes + owner.pinned_free + owner.top + owner.cached : null;
}

// Live bytes of an owner with what was rounded up; null where it was not walked.
export function liveOf(owner) {
  return isWalked(owner) ? owner.live + (owner.rounding ?? 0) : null;
}

// The terms of an account that are not live data, in the order in which they are taken off: field, glossary word, label.
export const ACCOUNT_TERMS = [
  ['metadata', 'metadata', 'metadata'],
  ['virgin', 'virgin', 'virgin slots'],
  ['free_spans', 'free pools', 'free pools'],
  ['holes', 'hole', 'holes'],
  ['pinned_free', 'pinned free', 'pinned free'],
  ['top', 'top', 'top'],
  ['cached', 'cached', 'cached'],
  ['unread', 'unread', 'unread'],
  ['rounding', 'rounding', 'rounding'],
];

// Container slack, all kinds; null where objects were not looked at.
export function slackBytes(snapshot) {
  return snapshot.slack ? sumBy(Object.values(snapshot.slack), (kind) => kind.bytes) : null;
}

// The way from RSS down to live data. Each step: `name`, `word` of the glossary, `bytes`, `from` (where its bar begins),
// `total`: it is what is left, not what is taken off. Steps of 0 bytes are left out. What is taken off in all and the
// last total sum to RSS. `notes`: what is not known.
export function waterfall(snapshot) {
  const walked = snapshot.owners.filter(isWalked);
  const others = snapshot.owners.filter((o) => !isWalked(o));
  const rss = snapshot.memory.rss;
  const steps = [];
  const notes = [];
  let left = rss;
  const total = (name, word, colour) => steps.push({ name, word, bytes: left, from: 0, total: true, colour });
  const take = (name, word, bytes, colour) => {
    if (!bytes) return;
    left -= bytes;
    steps.push({ name, word, bytes, from: left, total: false, colour });
  };
  const of = (kinds) => sumBy(others.filter((o) => kinds.includes(o.kind)), (o) => o.resident);
  total('RSS', 'RSS', 'rss');
  take('files and shared memory', 'files', of(FILES), 'files');
  take('stacks', 'stacks', of(STACKS), 'files');
  const named = [...FILES, ...STACKS, ...ALLOCATORS];
  take('other owners', 'other owners', sumBy(others.filter((o) => !named.includes(o.kind)), (o) => o.resident), 'files');
  take('heaps that are not walked', 'not walked', of(ALLOCATORS), 'native');
  take('without an owner', 'unattributed', snapshot.unattributed, 'unread');
  const drift = rss - sumBy(snapshot.owners, (o) => o.resident) - snapshot.unattributed;
  take('changed while read', 'torn', drift, 'unread');
  if (walked.length === 0) {
    notes.push('No heap of this process was walked: what is live in it is not known.');
    return { steps, notes };
  }
  total('walked heaps', 'walked', 'heaps');
  for (const [field, word, name] of ACCOUNT_TERMS) take(name, word, sumBy(walked, (o) => o[field]), field);
  const vague = walked.filter((o) => o.rounding === null && o.live > 0).map((o) => o.name);
  if (vague.length > 0) notes.push(`How much was rounded up is not known of ${vague.join(', ')}: it is part of live there.`);
  const slack = slackBytes(snapshot);
  if (slack === null) {
    notes.push('Objects were not looked at: container slack is not known, and is part of live data.');
    total('live', 'live', 'live');
    return { steps, notes };
  }
  if (slack > left) {
    notes.push('Container slack is more than what is live and resident: some of it is not resident. It is not taken off.');
  } else if (slack > 0) {
    total('live', 'live', 'live');
    take('container slack', 'container slack', slack, 'slack');
  }
  total('live data', 'live data', 'live');
  return { steps, notes };
}

// The commands that this version has for the rungs.
const TRIM = 'import ctypes; ctypes.CDLL(None).malloc_trim(0)';

// The rungs of the ladder: `bytes` that come back (null: not known), `more` than the rung below, `does`, and `command` or `how`.
export function ladderRungs(snapshot) {
  const l = snapshot.ladder;
  const rungs = [
    { rung: 'trim', does: 'malloc’s free runs of whole OS pages', command: TRIM },
    { rung: 'purge', does: 'and pymalloc’s free pools, free tails and holes', how: 'No command of this version does this. A restart returns more; forking later, after less is free, copies less.' },
    { rung: 'compact', does: 'and sparse pools whose survivors can move', how: 'No command of this version does this. In the program: copy what survives and drop the old.' },
    { rung: 'ideal', does: 'perfect packing of what is live', how: 'A bound that nothing reaches: there is no command for it.' },
  ];
  let below = 0;
  return rungs.map((r) => {
    const bytes = l[r.rung] ?? null;
    const more = bytes === null ? null : Math.max(bytes - below, 0);
    if (bytes !== null) below = bytes;
    return { ...r, bytes, more };
  });
}

// The first number with a unit in a sentence, or what it rose to: { number, rest }, `147.3 MiB` and `of 161.4 MiB`;
// null if there is none.
export function numberOf(sentence) {
  const found = /(<?\d[\d.,]*)(?: (of|to) (<?\d[\d.,]*))? ([KMGTPE]iB|B)\b/.exec(sentence);
  if (!found) return null;
  const [, first, word, second, unit] = found;
  if (!word) return { number: `${first} ${unit}`, rest: '' };
  if (word === 'to') return { number: `${second} ${unit}`, rest: `from ${first} ${unit}` };
  return { number: `${first} ${unit}`, rest: `of ${second} ${unit}` };
}

// Where chains may end their head: `app.X[dict] -> …`, `libfoo.so (native)`.
const BEHIND_HEAD = ['', '[', ' '];

// The head of a chain, of those that are known (`headsOf`): that of the same chain, else the longest that it begins with;
// null if there is none.
export function headOf(chain, known) {
  let best = known.get(chain) ?? null;
  if (best !== null) return best;
  for (const head of known.values()) {
    if (!head || !chain.startsWith(head) || (best !== null && head.length <= best.length)) continue;
    if (BEHIND_HEAD.includes(chain.charAt(head.length))) best = head;
  }
  return best;
}

// A type's name without the part that a buffer is: `dict (keys)` is of `dict`.
export function typeOf(name) {
  return name.replace(/ \([a-z_ -]+\)$/, '');
}

// All chains that a look knows, with their heads.
export function headsOf(look) {
  const pins = look.snapshot.pins?.by_owner ?? [];
  const mapped = look.map?.owners ?? [];
  return new Map([...mapped, ...pins].filter((o) => o.head).map((o) => [o.owner, o.head]));
}

// Why objects are missing in a snapshot, in a sentence; '' where they are there.
export function whyNoObjects(snapshot, kind) {
  if (snapshot.objects) return '';
  if (snapshot.partial) return 'This look is partial: no object could be read.';
  if (kind === 'tree') return 'Objects are not looked at where a tree of processes is: pydefrag snapshot PID, for one of them, does.';
  const allocator = snapshot.process.python?.allocator;
  if (allocator && allocator !== 'pymalloc' && allocator !== 'malloc') return `Objects were not looked at: ${shown(allocator, 40)} serves them, which this version does not walk.`;
  return 'Objects were not looked at (--no-objects, or see the notes): who pins, types, slack and garbage are not known.';
}
