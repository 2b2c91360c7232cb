// Two looks: what grew between them.
import { headOf, headsOf } from './facts.js';
import { KINDS } from './glossary.js';
import { absent, lead, make, part, term } from './make.js';
import { Grid } from './grid.js';

const grown = (c) => (c ? c.after - c.before : null);

// Before, after and change of a field, as columns.
function changed(name, of, { word, kind = 'bytes', sum = true, colour = null } = {}) {
  const label = name ? name + ': ' : '';
  return [
    { key: name + '_before', label: label + 'before', kind, sum, of: (r) => of(r)?.before ?? null },
    { key: name + '_after', label: label + 'after', kind, sum, of: (r) => of(r)?.after ?? null },
    { key: name + '_change', label: label + 'change', word, kind: kind === 'count' ? 'changecount' : 'change', sum, of: (r) => grown(of(r)), bar: colour },
  ];
}

export function changePart(facts, state) {
  const { diff, looks } = facts;
  const heaps = diff.heaps;
  const sums = [['RSS', () => term('RSS', 'RSS'), diff.rss], ['swap', () => term('swap', 'swap'), diff.swap], ...(heaps ? [['walked heaps', () => term('walked', 'walked heaps'), heaps.resident], ['live data', () => term('live', 'live data'), heaps.live], ['free, held by neighbours', () => term('external fragmentation', 'free, held by neighbours'), heaps.external], ['free, at malloc’s tops and in caches', () => term('top', 'free, at malloc’s tops and in caches'), heaps.slack]] : [])];
  const whole = new Grid({
    id: 'change', title: 'The whole', rows: sums, columns: [
      { key: 'what', label: 'of', kind: 'text', of: (r) => r[0], show: (r) => r[1]() }, ...changed('', (r) => r[2], { sum: false, colour: 'change' }),
    ], note: heaps ? 'Heaps that both looks walked, together.' : 'The two looks walked no heap in common: what is live in them cannot be compared.',
  }, state);
  const owners = new Grid({
    id: 'change_owners', title: 'Owners of resident bytes', rows: diff.owners, sort: '', columns: [
      { key: 'name', label: 'owner', kind: 'text', of: (o) => o.name }, ...changed('resident', (o) => o.resident, { word: 'resident', colour: 'change' }),
      { key: 'live', label: 'live: change', word: 'live', kind: 'change', sum: true, of: (o) => grown(o.live), bar: 'change' },
      { key: 'free', label: 'free: change', word: 'fragmentation', kind: 'change', sum: true, of: (o) => grown(o.free), bar: 'change' },
      { key: 'kind', label: 'kind', kind: 'text', slim: true, quiet: true, of: (o) => KINDS[o.kind] ?? o.kind },
    ],
  }, state);
  const mapped = looks.some((l) => l.map);
  const show = () => mapped && lead('map');
  const section = part('change', 'What changed', whole.element, owners.element);
  const why = 'Not known: one of the looks has no objects.';
  if (diff.types) {
    section.append(new Grid({
      id: 'change_types', title: 'Types, with their buffers', rows: diff.types, empty: 'No type changed.', note: 'At most 20 that changed most are listed.', select: { field: 'type', of: (t) => t.type, also: { owner: '' }, then: show }, columns: [
        { key: 'type', label: 'type', kind: 'text', of: (t) => t.type }, ...changed('bytes', (t) => t.bytes, { colour: 'change' }), ...changed('objects', (t) => t.count, { kind: 'count' }),
      ],
    }, state).element);
  } else section.append(make('h3', { text: 'Types' }), absent(why));
  if (diff.pins) {
    const heads = new Map(looks.flatMap((l) => [...headsOf(l)]));
    const rows = diff.pins.map((p) => ({ ...p, head: headOf(p.owner, heads) }));
    section.append(new Grid({
      id: 'change_pins', title: 'Owners of blocks', rows, empty: 'No owner’s blocks changed.', note: 'At most 20 that changed most are listed.', select: { field: 'owner', of: (p) => p.head, also: { type: '' }, then: show }, columns: [
        { key: 'owner', label: 'owner', word: 'chain', kind: 'text', of: (p) => p.owner, head: (p) => p.head }, ...changed('bytes', (p) => p.bytes, { colour: 'change' }),
        { key: 'pinned', label: 'pinned: change', word: 'pinned', kind: 'change', sum: true, of: (p) => grown(p.pinned), bar: 'change' }, ...changed('blocks', (p) => p.count, { kind: 'count' }),
      ],
    }, state).element);
  } else section.append(make('h3', { text: 'Owners of blocks' }), absent(why));
  return section;
}
