// A process and its descendants: what each costs, and all together.
import { counted } from './text.js';
import { liveOf } from './facts.js';
import { KINDS, VERDICTS } from './glossary.js';
import { absent, alien, make, part, term } from './make.js';
import { Grid } from './grid.js';

// Processes that could not be looked at that are named.
const MOST_MISSING = 100;

export function familyPart(facts, state) {
  const { tree, looks } = facts;
  const rows = tree.members.map((m, i) => ({ ...m, i, snapshot: looks[i].snapshot }));
  const sums = { kind: 'bytes', sum: true };
  const live = (m) => {
    const known = m.snapshot.owners.map(liveOf).filter((n) => n !== null);
    return known.length > 0 ? known.reduce((a, b) => a + b, 0) : null;
  };
  const members = new Grid({
    id: 'members', title: 'Processes', rows, sort: '', limit: 20, select: { field: 'of', of: (m) => String(m.i) }, whole: { key: 'pss', bytes: tree.pss, name: 'The PSS of all' }, note: 'A click on a process shows its account below.', columns: [
      { key: 'pid', label: 'process', kind: 'text', slim: true, of: (m) => String(m.snapshot.process.pid), show: (m) => make('span', { class: 'depth' + Math.min(m.depth, 6) }, String(m.snapshot.process.pid)) },
      { key: 'pss', label: 'PSS', word: 'PSS', ...sums, of: (m) => m.snapshot.memory.pss, bar: 'rss' },
      { key: 'rss', label: 'RSS', word: 'RSS', ...sums, of: (m) => m.snapshot.memory.rss },
      { key: 'alone', label: 'it alone', word: 'alone', ...sums, of: (m) => m.alone, bar: 'back' },
      { key: 'copied', label: 'copied', word: 'copied', ...sums, of: (m) => m.copied, bar: 'pinned_free' },
      { key: 'still_shared', label: 'still shared', word: 'still shared', ...sums, of: (m) => m.still_shared },
      { key: 'live', label: 'live', word: 'live', ...sums, of: live },
      { key: 'fragmentation', label: 'fragmentation', word: 'fragmentation', kind: 'percent', of: (m) => m.snapshot.fragmentation?.percent ?? null },
      { key: 'verdict', label: 'verdict', word: 'verdict', kind: 'text', slim: true, of: (m) => (m.snapshot.verdict ? VERDICTS[m.snapshot.verdict.kind]?.[0] ?? m.snapshot.verdict.kind : null) },
      { key: 'command', label: 'command', kind: 'text', wide: true, of: (m) => m.snapshot.process.command },
    ],
  }, state);
  const owners = new Grid({
    id: 'tree_owners', title: 'Whose they are, in PSS over all', rows: tree.owners, sort: '-pss', limit: 14, whole: { key: 'pss', bytes: tree.pss, name: 'The PSS of all', rest: 'has no owner' }, columns: [
      { key: 'kind', label: 'kind', kind: 'text', of: (o) => KINDS[o.kind] ?? o.kind },
      { key: 'pss', label: 'PSS', word: 'PSS', ...sums, of: (o) => o.pss, bar: 'rss' },
      { key: 'share', label: 'of all', kind: 'percent', quiet: true, sum: true, of: (o) => 100 * o.pss / (tree.pss || 1) },
    ],
  }, state);
  const section = part('family', 'Processes', make('p', { class: 'about' }, term('RSS'), ' counts a shared OS page in each process; ', term('PSS'), ' gives each its part, and adds up to what they cost.'), members.element, owners.element);
  if (tree.missing.length > 0) {
    section.append(make('h3', { text: `Not looked at: ${counted(tree.missing.length, 'process', 'processes')}` }), make('ul', { class: 'asides' }, tree.missing.slice(0, MOST_MISSING).map((m) => make('li', {}, `pid ${m.pid}: `, alien(m.reason, '', 400)))));
    if (tree.missing.length > MOST_MISSING) section.append(absent(`${counted(tree.missing.length - MOST_MISSING, 'other')}: see --json.`));
  }
  return section;
}
