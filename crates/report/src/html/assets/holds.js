// What holds the memory: pins, types, room to spare, better structures, duplicates, garbage, each as a table.
import { count, counted, percent, size } from './text.js';
import { headOf, headsOf, slackBytes, typeOf, whyNoObjects } from './facts.js';
import { CHANGES, ROOTS } from './glossary.js';
import { absent, alien, command, lead, make, part, term } from './make.js';
import { Grid } from './grid.js';

// A click on a row lights its owner or type up on the map.
function lights(look, field, of) {
  return { field, of, also: field === 'owner' ? { type: '' } : { owner: '' }, then: () => look.map && lead('map') };
}

const PIN_COLUMNS = [
  { key: 'pinned', label: 'pinned', word: 'pinned', kind: 'bytes', sum: true, of: (p) => p.pinned, bar: 'pinned_free' },
  { key: 'gone', label: 'back if gone', word: 'gone', kind: 'bytes', of: (p) => p.gone, bar: 'back' },
  { key: 'count', label: 'blocks', word: 'block', kind: 'count', sum: true, of: (p) => p.count },
  { key: 'bytes', label: 'their bytes', word: 'live', kind: 'bytes', sum: true, of: (p) => p.bytes },
  { key: 'packed', label: 'packed', word: 'packed', kind: 'bytes', of: (p) => p.packed },
  { key: 'moved', label: 'moved', word: 'moved', kind: 'bytes', sum: true, of: (p) => p.moved },
];

export function pinsPart(look, kind, state) {
  const { pins } = look.snapshot;
  if (!pins) return part('pins', 'What pins', absent(whyNoObjects(look.snapshot, kind)));
  const whole = { key: 'pinned', bytes: pins.pinned, name: 'All that is pinned', over: 'for a group whose blocks fill their OS pages pins less than nothing, which counts as 0 in a row' };
  const share = { key: 'share', label: 'of all', kind: 'percent', quiet: true, sum: true, of: (p) => 100 * p.pinned / (pins.pinned || 1) };
  const columns = (first, ...rest) => [...first, PIN_COLUMNS[0], share, ...PIN_COLUMNS.slice(1), ...rest];
  const tabs = [
    ['owner', 'by owner', { rows: pins.by_owner, columns: columns([{ key: 'owner', label: 'owner', word: 'chain', kind: 'text', of: (p) => p.owner, head: (p) => p.head }], { key: 'root', label: 'begins with', kind: 'text', slim: true, quiet: true, of: (p) => ROOTS[p.root]?.[0] ?? p.root }), select: lights(look, 'owner', (p) => p.head) }],
    ['type', 'by type', { rows: pins.by_type, columns: columns([{ key: 'type', label: 'type', kind: 'text', of: (p) => p.type }]), select: lights(look, 'type', (p) => typeOf(p.type)) }],
    ['class', 'by size class', { rows: pins.by_class, columns: columns([{ key: 'size', label: 'block of', word: 'size class', kind: 'bytes', left: true, of: (p) => p.size }]) }],
    ['site', 'by line that allocated', { rows: pins.by_site ?? [], columns: columns([{ key: 'site', label: 'line', kind: 'text', of: (p) => `${p.file}:${p.line}` }]) }],
  ];
  const panels = tabs.map(([name, title, given]) => {
    const empty = name === 'site' && pins.by_site === null ? 'Not known: tracemalloc is not on in the process. Start it with -X tracemalloc.' : 'Nothing is pinned.';
    const note = name === 'site' && pins.without_site.count > 0 ? `${counted(pins.without_site.count, 'block')} of ${size(pins.without_site.bytes)} were allocated before tracemalloc was started.` : null;
    const rest = name === 'class' ? 'is of malloc’s chunks' : undefined;
    const grid = new Grid({ id: 'pins_' + name, title: 'Pins ' + title, sort: '-pinned', ...given, whole: { ...whole, rest }, empty, note }, state);
    return make('div', { class: 'panel', id: 'panel-' + name, role: 'tabpanel', 'aria-labelledby': 'tab-' + name }, grid.element);
  });
  const bar = tabBar(tabs, panels, state);
  return part('pins', 'What pins', make('p', { class: 'about' }, make('b', { text: size(pins.pinned) }), ' are free, but live blocks beside them ', term('pin'), ' their OS pages. ', look.map ? 'A click on an owner or a type lights it up on the map.' : ''), bar, panels);
}

// Tabs by the pattern that screen readers know: arrows move, one is in the order of focus.
function tabBar(tabs, panels, state) {
  const buttons = tabs.map(([name, title]) => make('button', { type: 'button', role: 'tab', id: 'tab-' + name, 'aria-controls': 'panel-' + name, on: { click: () => state.set({ by: name }) } }, title));
  const show = () => {
    const now = Math.max(tabs.findIndex(([name]) => name === state.get('by')), 0);
    buttons.forEach((b, i) => {
      b.setAttribute('aria-selected', String(i === now));
      b.tabIndex = i === now ? 0 : -1;
      panels[i].classList.toggle('off', i !== now);
    });
  };
  const bar = make('div', { class: 'tabs noprint', role: 'tablist', 'aria-label': 'Pins by' }, buttons);
  bar.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = (buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length;
    buttons[at].click();
    buttons[at].focus();
    event.preventDefault();
  });
  show();
  state.subscribe((_, changed) => bar.isConnected && changed.includes('by') && show());
  return bar;
}

function typeColumns(objects) {
  return [
    { key: 'type', label: 'type', kind: 'text', of: (t) => t.type },
    { key: 'all', label: 'bytes, with buffers', word: 'buffers', kind: 'bytes', sum: true, of: (t) => t.bytes + t.buffers, bar: 'live' },
    ...(objects ? [{ key: 'share', label: 'of all', kind: 'percent', quiet: true, sum: true, of: (t) => 100 * (t.bytes + t.buffers) / (objects.all.bytes || 1) }] : []),
    { key: 'count', label: 'objects', kind: 'count', sum: true, of: (t) => t.count },
    { key: 'bytes', label: 'own', word: 'typed', kind: 'bytes', sum: true, of: (t) => t.bytes },
    { key: 'buffers', label: 'buffers', word: 'owned', kind: 'bytes', sum: true, of: (t) => t.buffers },
    { key: 'rounding', label: 'rounding', word: 'rounding', kind: 'bytes', sum: true, of: (t) => t.rounding },
    { key: 'asks', label: 'each asks', word: 'asks', kind: 'bytes', of: (t) => t.asks },
    { key: 'gets', label: 'each gets', word: 'size class', kind: 'bytes', of: (t) => (t.asks !== null && t.count > 0 ? Math.round(t.bytes / t.count) : null) },
    { key: 'tracked', label: 'tracked', word: 'tracked', kind: 'count', sum: true, of: (t) => t.tracked },
    { key: 'free_listed', label: 'free-listed', word: 'free-listed', kind: 'count', sum: true, of: (t) => t.free_listed },
  ];
}

export function typesPart(look, kind, state) {
  const { objects } = look.snapshot;
  if (!objects) return part('types', 'Types', absent(whyNoObjects(look.snapshot, kind)));
  const typed = objects.typed.bytes + objects.owned.bytes;
  const grid = new Grid({
    id: 'types', title: 'Live objects by type', rows: objects.types, columns: typeColumns(objects), sort: '-all', empty: 'No object is known.', select: lights(look, 'type', (t) => t.type),
    note: objects.other_types.count > 0 ? `${counted(objects.other_types.count, 'more type')} of ${size(objects.other_types.bytes)} are not listed.` : 'All types are listed.',
  }, state);
  const rows = [['typed', 'objects', () => term('typed'), objects.typed], ['owned', 'buffers', () => term('owned'), objects.owned], ['free-listed', 'kept by CPython for reuse', () => term('free-listed'), objects.free_listed], ['unknown', 'nothing is known to hold it', () => term('unknown'), objects.unknown]];
  const known = new Grid({
    id: 'known', title: 'How much of what is live is known', rows, columns: [
      { key: 'what', label: 'live blocks', kind: 'text', of: (r) => r[0], show: (r) => make('span', {}, r[2](), ': ' + r[1]) },
      { key: 'bytes', label: 'bytes', kind: 'bytes', sum: true, of: (r) => r[3].bytes, bar: 'live' },
      { key: 'share', label: 'of all', kind: 'percent', quiet: true, sum: true, of: (r) => 100 * r[3].bytes / (objects.all.bytes || 1) },
      { key: 'count', label: 'blocks', kind: 'count', sum: true, of: (r) => r[3].count },
    ], whole: { key: 'bytes', bytes: objects.all.bytes, name: 'All that is live', over: 'which should not be' },
  }, state);
  return part('types', 'Types', make('p', { class: 'about' }, make('b', { text: size(typed) }), ` of ${size(objects.all.bytes)} live bytes are objects and their buffers (${percent(typed, objects.all.bytes)}).`), grid.element, known.element);
}

export function slackPart(look, kind, state) {
  const { slack } = look.snapshot;
  if (!slack) return part('slack', 'Room to spare', absent(whyNoObjects(look.snapshot, kind)));
  const kinds = Object.entries(slack);
  const grid = new Grid({
    id: 'slack', title: 'Container slack by kind', rows: kinds, sort: '-bytes', columns: [
      { key: 'kind', label: 'kind', kind: 'text', of: ([name]) => name },
      { key: 'bytes', label: 'to spare', word: 'container slack', kind: 'bytes', sum: true, of: ([, s]) => s.bytes, bar: 'slack' },
      { key: 'held', label: 'held', word: 'held', kind: 'bytes', sum: true, of: ([, s]) => s.held },
      { key: 'share', label: 'of held', kind: 'percent', quiet: true, of: ([, s]) => (s.held > 0 ? 100 * s.bytes / s.held : null) },
      { key: 'containers', label: 'containers', kind: 'count', sum: true, of: ([, s]) => s.containers },
      { key: 'most', label: 'most of it in', kind: 'text', of: ([, s]) => s.worst[0]?.owner ?? null },
    ],
  }, state);
  const heads = headsOf(look);
  const worst = kinds.flatMap(([name, s]) => s.worst.map((w) => ({ ...w, kind: name, head: headOf(w.owner, heads) })));
  const owners = new Grid({
    id: 'slack_owners', title: 'Owners with most room to spare', rows: worst, sort: '-bytes', empty: 'No container has any.', select: lights(look, 'owner', (w) => w.head), columns: [
      { key: 'owner', label: 'owner', word: 'chain', kind: 'text', of: (w) => w.owner, head: (w) => w.head },
      { key: 'kind', label: 'kind', kind: 'text', slim: true, quiet: true, of: (w) => w.kind },
      { key: 'bytes', label: 'to spare', word: 'container slack', kind: 'bytes', sum: true, of: (w) => w.bytes, bar: 'slack' },
      { key: 'containers', label: 'containers', kind: 'count', sum: true, of: (w) => w.containers },
    ], whole: { key: 'bytes', bytes: slackBytes(look.snapshot), name: 'All container slack', rest: 'is with owners that are not listed' },
  }, state);
  return part('slack', 'Room to spare', grid.element, owners.element);
}

export function savingsPart(look, kind, state) {
  const { savings } = look.snapshot;
  if (!savings) return part('savings', 'Better structures', absent(whyNoObjects(look.snapshot, kind)));
  const heads = headsOf(look);
  const rows = savings.map((s) => ({ ...s, head: headOf(s.of, heads) }));
  const grid = new Grid({
    id: 'savings', title: 'What other structures would save', rows, sort: '-saved', empty: 'No change of structure would save anything here.', note: 'Changes overlap: what they save does not add up.', select: lights(look, 'owner', (s) => s.head), columns: [
      { key: 'of', label: 'of', kind: 'text', of: (s) => s.of, head: (s) => s.head },
      { key: 'change', label: 'change', word: 'savings', kind: 'text', slim: true, of: (s) => s.change, show: (s) => make('span', { title: CHANGES[s.change]?.[1] ?? '', text: CHANGES[s.change]?.[0] ?? s.change }) },
      { key: 'saved', label: 'saved', kind: 'bytes', of: (s) => s.saved, bar: 'back' },
      { key: 'now', label: 'now', kind: 'bytes', of: (s) => s.now },
      { key: 'count', label: 'objects', kind: 'count', of: (s) => s.count },
      { key: 'how', label: 'what to write', kind: 'text', wide: true, of: (s) => s.how, show: (s) => command(s.how) },
    ],
  }, state);
  return part('savings', 'Better structures', grid.element);
}

export function duplicatesPart(look, kind, state) {
  const { duplicates } = look.snapshot;
  if (!duplicates) return part('duplicates', 'Duplicates', absent(whyNoObjects(look.snapshot, kind)));
  const { copies, looked_at: seen, one_in: oneIn } = duplicates;
  const heads = headsOf(look);
  const rows = duplicates.worst.map((w) => ({ ...w, head: headOf(w.owner, heads) }));
  const examples = rows.some((w) => typeof w.example === 'string');
  const grid = new Grid({
    id: 'duplicates', title: 'Owners with most copies', rows, sort: '-bytes', empty: 'No text is stored more than once.', select: lights(look, 'owner', (w) => w.head), columns: [
      { key: 'owner', label: 'owner', word: 'chain', kind: 'text', of: (w) => w.owner, head: (w) => w.head },
      { key: 'bytes', label: 'bytes', kind: 'bytes', sum: true, of: (w) => w.bytes, bar: 'live' },
      { key: 'copies', label: 'copies', word: 'duplicates', kind: 'count', sum: true, of: (w) => w.copies },
      { key: 'different', label: 'of different', kind: 'count', of: (w) => w.different },
      ...(examples ? [{ key: 'example', label: 'such as', kind: 'text', of: (w) => w.example ?? null, show: (w) => (w.example === undefined ? make('span', { class: 'none', text: '–' }) : make('q', {}, alien(w.example))) }] : []),
    ], whole: { key: 'bytes', bytes: copies.bytes, name: 'All copies', rest: 'is with owners that are not listed' },
    note: examples || rows.length === 0 ? null : 'What the texts say is not in the report: --show-values shows it.',
  }, state);
  const sampled = oneIn > 1 ? `, estimated from one content in ${count(oneIn)}` : '';
  return part('duplicates', 'Duplicates', make('p', { class: 'about' }, make('b', { text: size(copies.bytes) }), ` in ${counted(copies.count, 'copy', 'copies')} of equal str and bytes${sampled}. Looked at: ${size(seen.bytes)} in ${count(seen.count)}.`), grid.element);
}

export function garbagePart(look, kind, state) {
  const { garbage } = look.snapshot;
  if (!garbage) return part('garbage', 'Garbage', absent(whyNoObjects(look.snapshot, kind)));
  const types = new Grid({ id: 'garbage_types', title: 'Garbage by type', rows: garbage.by_type, columns: typeColumns(null), sort: '-all', empty: 'None was found.', select: lights(look, 'type', (t) => t.type), whole: garbage.by_type.length > 0 ? { key: 'all', bytes: garbage.bytes, name: 'All garbage', rest: 'is of types that are not listed, or without a type', over: 'for buffers of frozen or shared objects count here' } : null }, state);
  const generations = new Grid({
    id: 'garbage_generations', title: 'Garbage by generation', rows: garbage.generations, empty: 'The collector’s generations are not known.', columns: [
      { key: 'name', label: 'generation', word: 'generation', kind: 'text', of: (g) => g.name },
      { key: 'tracked', label: 'tracked objects', word: 'tracked', kind: 'count', sum: true, of: (g) => g.tracked },
      { key: 'garbage', label: 'of these garbage', kind: 'count', sum: true, of: (g) => g.garbage.count },
      { key: 'bytes', label: 'their bytes', kind: 'bytes', sum: true, of: (g) => g.garbage.bytes, bar: 'live' },
    ],
  }, state);
  const said = garbage.objects === 0 ? 'None found; a lower bound, for what looks like a reference counts.'
    : `At least ${size(garbage.bytes)} in ${counted(garbage.objects, 'object')} that nothing reaches (${counted(garbage.blocks, 'block')})${garbage.pinned > 0 ? `, which pin ${size(garbage.pinned)} more` : ''}.`;
  return part('garbage', 'Garbage', make('p', { class: 'about' }, term('garbage', 'Garbage'), ': ', said, garbage.objects > 0 ? [' ', command('import gc; gc.collect()')] : null), types.element, generations.element);
}
