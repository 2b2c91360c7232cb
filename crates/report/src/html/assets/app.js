// The page: reads the data and puts the parts in their places. The map comes last, for all else needs no decoding.
import { counted, shown, size } from './text.js';
import { State } from './state.js';
import { GLOSSARY, VERDICTS } from './glossary.js';
import { whyNoObjects } from './facts.js';
import { islands } from './columns.js';
import { Heap } from './heap.js';
import { MapView } from './map.js';
import { absent, alien, bytes, followBytes, lead, make, part, term, watchPopover } from './make.js';
import { notesOf, pageHead, processFacts, verdictPart, warnings } from './verdict.js';
import { ladderPart, ownersPart, waterfallPart } from './resident.js';
import { duplicatesPart, garbagePart, pinsPart, savingsPart, slackPart, typesPart } from './holds.js';
import { allocatorsPart } from './heaps.js';
import { runPart } from './timeline.js';
import { changePart } from './change.js';
import { familyPart } from './family.js';
import { contents, themeSwitch } from './frame.js';

// Strips of a tree that are drawn at once; others when they come into sight.
const STRIPS_AT_ONCE = 6;
// Strips of a tree in all.
const MOST_STRIPS = 60;
// Notes that are shown.
const MOST_NOTES = 200;

const facts = JSON.parse(document.getElementById('facts').textContent);
const state = new State(location.hash);
const page = document.getElementById('page');

// What the page is made of, for a console and for tests; null where a look has no map.
const known = { facts, state, heaps: facts.looks.map(() => null), maps: facts.looks.map(() => null) };
window.pydefrag = known;

// Which look the tables are of.
function lookShown() {
  const chosen = facts.looks[Number(state.get('of'))];
  if (state.get('of') !== '' && chosen) return chosen;
  return facts.kind === 'diff' ? facts.looks.at(-1) : facts.looks[0];
}

// To the row of what is selected, if there is one.
function toRow(id) {
  const row = document.querySelector(`#${id} .panel:not(.off) tr.selected .pick, #${id} > .grid tr.selected .pick`);
  row?.scrollIntoView({ block: 'center' });
  row?.focus({ preventScroll: true });
}

// What is lit up on the map, and the way back to the row that it was chosen in.
function selectionBar(look) {
  const bar = make('div', { class: 'selection', role: 'status' });
  const follow = () => {
    const owner = state.get('owner');
    const type = state.get('type');
    const now = look();
    bar.hidden = owner === '' && type === '';
    if (bar.hidden) return;
    const said = owner !== '' ? make('span', {}, 'Lit up: ', alien(owner, owner, 80)) : make('span', {}, 'Lit up: objects of ', alien(type, type, 80));
    const pins = now.snapshot.pins;
    const rows = owner !== '' ? pins?.by_owner.filter((p) => p.head === owner) : pins?.by_type.filter((p) => p.type === type);
    const found = rows?.length > 0 ? make('span', {}, ': ', term('pinned', 'pins'), ' ', make('b', {}, bytes(rows.reduce((n, p) => n + p.pinned, 0), state)), ', ', term('gone', 'back if gone'), ' ', make('b', {}, bytes(rows.reduce((n, p) => n + p.gone, 0), state)), rows.length > 1 ? ` at least, in ${counted(rows.length, 'row')}` : '') : null;
    const back = make('button', { type: 'button', class: 'quiet noprint', on: { click: () => { state.set({ by: owner !== '' ? 'owner' : 'type' }); lead(pins ? 'pins' : 'types'); toRow(pins ? 'pins' : 'types'); } } }, 'To the tables');
    const clear = make('button', { type: 'button', class: 'quiet noprint', on: { click: () => state.set({ owner: '', type: '' }) } }, 'Clear');
    bar.replaceChildren(make('span', {}, said, found), make('span', { class: 'actions' }, back, clear));
  };
  follow();
  state.subscribe((_, changed) => ['owner', 'type', 'of', 'bytes'].some((n) => changed.includes(n)) && follow());
  return bar;
}

// The place of the map. Says which look has none, and why.
function mapPart() {
  const section = part('map', 'The heap', selectionBar(lookShown));
  if (facts.looks.length > 2 && facts.looks.every((l) => !l.map)) {
    section.append(absent(whyNoMap(facts.looks[0])));
    return { section, places: [] };
  }
  const places = facts.looks.slice(0, MOST_STRIPS).map((look, i) => {
    const place = make('div', { class: 'heapmap', 'data-look': String(i) });
    const titled = facts.looks.length > 1;
    section.append(make('div', { class: 'maplook' }, titled ? make('h3', {}, alien(look.title), `: RSS ${size(look.snapshot.memory.rss)}`) : null, look.map ? place : absent(whyNoMap(look))));
    return look.map ? { place, look, i } : null;
  });
  const rest = facts.looks.length - MOST_STRIPS;
  if (rest > 0) section.append(absent(`${counted(rest, 'other process', 'other processes')}: the largest are drawn by pydefrag snapshot PID --html FILE, one by one.`));
  return { section, places: places.filter(Boolean) };
}

function whyNoMap(look) {
  const s = look.snapshot;
  if (s.partial) return 'No map: this look is partial, no heap could be read.';
  if (!s.owners.some((o) => typeof o.live === 'number')) return 'No map: no heap of this process was walked.';
  return 'No map: this look was kept without one.';
}

// Bytes that the regions of a look's map have.
const mapped = (look) => look.map.regions.reduce((n, r) => n + r.size, 0);

// Rows that a look's heaps fill, each beginning a row of its own.
function rowsOf(look, bytesPerRow) {
  const heaps = new Map();
  for (const r of look.map.regions) heaps.set(r.heap, (heaps.get(r.heap) ?? 0) + r.size);
  return [...heaps.values()].reduce((n, bytes) => n + Math.ceil(bytes / bytesPerRow), 0);
}

// Heaps on one scale: the same number of bytes in a row of each.
function drawing(places) {
  const largest = Math.max(...places.map(({ look }) => mapped(look)), 1);
  const options = {};
  if (facts.kind === 'tree') options.strip = true;
  if (places.length > 1) options.bytesPerRow = options.strip ? largest : 2 ** Math.max(Math.ceil(Math.log2(largest / 64)), 16);
  if (options.bytesPerRow && !options.strip) options.rows = Math.max(...places.map(({ look }) => rowsOf(look, options.bytesPerRow)));
  return async ({ place, look, i }) => {
    known.heaps[i] = new Heap(look, await islands(i), i);
    known.maps[i] = new MapView(place, known.heaps[i], state, { ...options, look: i });
  };
}

// All that is told of one look.
function lookParts(look) {
  const parts = [['waterfall', waterfallPart(look, state)], ['ladder', ladderPart(look, state)], ['pins', pinsPart(look, facts.kind, state)], ['owners', ownersPart(look, state)]];
  const why = whyNoObjects(look.snapshot, facts.kind);
  if (why) {
    parts.push(['types', part('types', 'Types, room to spare, structures, duplicates, garbage', absent(why))]);
  } else {
    for (const [id, build] of [['types', typesPart], ['slack', slackPart], ['savings', savingsPart], ['duplicates', duplicatesPart], ['garbage', garbagePart]]) parts.push([id, build(look, facts.kind, state)]);
  }
  parts.push(['heaps', allocatorsPart(look, state)]);
  return parts;
}

const NAMES = { verdict: 'Verdict', change: 'Change', family: 'Processes', map: 'Map', waterfall: 'From RSS to live', ladder: 'Ladder', run: 'Over time', pins: 'Pins', owners: 'Account', types: 'Types', slack: 'Slack', savings: 'Savings', duplicates: 'Duplicates', garbage: 'Garbage', heaps: 'Allocators', notes: 'Notes', words: 'Words' };

// The tables of one look; those of several are chosen by a row of buttons.
function ofLook() {
  const place = make('div', { id: 'look' });
  let now = null;
  const fill = () => {
    if (!lookShown() || now === lookShown()) return;
    now = lookShown();
    const choice = facts.looks.length > 1 ? chooser(now) : null;
    place.replaceChildren(...[choice, ...lookParts(now).map(([, element]) => element)].filter(Boolean));
  };
  fill();
  state.subscribe((_, changed) => changed.includes('of') && fill());
  return place;
}

function chooser(now) {
  const about = make('div', { class: 'chooser part' }, make('h2', { id: 'look-h', tabindex: '-1' }, facts.kind === 'diff' ? 'The look ' : 'Of ', alien(now.title)), make('p', { class: 'about' }, alien(now.snapshot.process.command, '', 240)));
  const { said } = processFacts(now.snapshot);
  about.append(make('p', { class: 'quietly' }, said.map(([name, value]) => `${name} ${shown(value, 60)}`).join(' · ')));
  if (now.snapshot.partial) about.append(...warnings({ kind: 'snapshot' }, now.snapshot));
  const names = facts.looks.map((look, i) => make('option', { value: String(i) }, shown(look.title, 60) + (facts.kind === 'tree' ? `: ${shown(look.snapshot.process.command, 60)}` : '')));
  const select = make('select', { id: 'of', on: { change: () => { state.set({ of: select.value }); document.getElementById('of')?.focus(); } } }, names);
  select.value = String(facts.looks.indexOf(now));
  about.append(make('p', { class: 'noprint' }, make('label', {}, 'The tables below are of ', select)));
  if (now.snapshot.verdict && facts.kind === 'tree') about.append(make('p', {}, make('b', { text: 'Verdict: ' }), alien(now.snapshot.verdict.sentence, '', 1200)));
  return about;
}

function notesPart(notes) {
  const rest = notes.length - MOST_NOTES;
  return part('notes', 'Notes', notes.length > 0 ? make('ul', { class: 'notes' }, notes.slice(0, MOST_NOTES).map((n) => make('li', {}, alien(n, '', 600)))) : absent('None.'), rest > 0 ? absent(`${counted(rest, 'more note')}: see --json.`) : null);
}

function wordsPart() {
  const words = [...Object.entries(GLOSSARY), ...Object.values(VERDICTS)].sort(([a], [b]) => a.localeCompare(b, 'en'));
  return part('words', 'The words', make('dl', { class: 'glossary' }, words.map(([word, text]) => make('div', {}, make('dt', { text: word }), make('dd', { text })))));
}

function build() {
  const first = lookShown();
  const verdict = facts.kind === 'diff' ? facts.diff.verdict : facts.kind === 'tree' ? null : first?.snapshot.verdict ?? null;
  const header = make('header', { class: 'top' }, make('div', { class: 'brand' }, make('span', { class: 'mark', 'aria-hidden': 'true' }, [1, 2, 3, 4].map((n) => make('span', { class: 'm' + n }))), 'pydefrag', themeSwitch(state)), ...pageHead(facts));
  const { section: map, places } = mapPart();
  const notes = notesOf(facts, facts.kind === 'snapshot' ? first?.snapshot : null);
  const parts = [...warnings(facts, facts.kind === 'snapshot' ? first?.snapshot : null), ...(first || facts.kind !== 'snapshot' ? [verdictPart(facts, first, verdict, state)] : [absent('This file has no look at a process.')]), map];
  if (facts.kind === 'diff') parts.push(changePart(facts, state));
  if (facts.kind === 'tree') parts.push(familyPart(facts, state));
  const run = facts.kind === 'snapshot' && first ? runPart(first, state) : null;
  if (run) parts.push(run);
  parts.push(ofLook(), notesPart(notes), wordsPart());
  page.replaceChildren(...parts);
  const ids = [...page.querySelectorAll('section.part')].map((s) => [s.id, NAMES[s.id] ?? s.id]);
  page.before(make('a', { class: 'skip', href: '#section=verdict', on: { click: (event) => { event.preventDefault(); lead('verdict'); } } }, 'To the verdict'), header, contents(ids, state));
  page.after(make('footer', {}, 'Made by ', alien(facts.looks[0]?.snapshot.tool ?? facts.tree?.tool ?? 'pydefrag'), '. This file loads nothing, and says nothing to anyone.'));
  return places;
}

const places = build();
watchPopover();
followBytes(state);
state.subscribe(() => history.replaceState(null, '', '#' + state.hash()));
addEventListener('hashchange', () => {
  state.read(location.hash);
  if (state.get('section')) lead(state.get('section'));
});
if (state.get('section')) lead(state.get('section'));
document.documentElement.dataset.ready = 'page';

const drawMap = drawing(places);
const failed = (place, error) => place.replaceChildren(absent(`The map could not be drawn: ${shown(error?.message ?? error, 200)}`));
// After the tables have been painted.
await new Promise((done) => { setTimeout(done, 0); });
for (const [n, given] of places.entries()) {
  if (n < STRIPS_AT_ONCE) {
    await drawMap(given).catch((error) => { failed(given.place, error); console.error(error); });
    continue;
  }
  const seen = new IntersectionObserver((entries) => {
    if (!entries.some((e) => e.isIntersecting)) return;
    seen.disconnect();
    drawMap(given).catch((error) => { failed(given.place, error); console.error(error); });
  }, { rootMargin: '400px' });
  given.place.classList.add('waiting');
  seen.observe(given.place);
}
document.documentElement.dataset.ready = 'map';
