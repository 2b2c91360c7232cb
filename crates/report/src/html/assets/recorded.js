// The page of a recording: reads the data and puts the parts in their places.
import { count, counted, duration, moment, size } from './text.js';
import { State } from './state.js';
import { island } from './columns.js';
import { Calls } from './calls.js';
import { collections, told } from './happened.js';
import { alien, bytes, followBytes, lead, make, part, watchPopover } from './make.js';
import { contents, themeSwitch } from './frame.js';
import { flamePart } from './flame.js';
import { timePart } from './moments.js';
import { happenedPart, placesPart, saidPart, threadsPart } from './sites.js';

const recorded = JSON.parse(document.getElementById('facts').textContent);
const view = new State(location.hash);
const place = document.getElementById('page');
const sampled = recorded.mode?.sampled ?? null;
const totals = { peak: recorded.peak.live.bytes, retained: recorded.retained.bytes, allocated: recorded.allocated.bytes };

function heading() {
  const { process } = recorded;
  const facts = [
    ['process', process.pid + (process.parent === null ? '' : `, a fork of ${process.parent}`)],
    ['Python', alien(process.python || 'not known', '', 40)],
    ['recorded', sampled ? `one allocation in ${size(sampled.every)}, at random` : 'everything'],
    ['from', moment(recorded.started_at)], ['for', duration(recorded.duration_ns / 1e9)],
  ];
  return [make('h1', {}, alien(process.command || `process ${process.pid}`, '', 240)), make('dl', { class: 'facts' }, facts.map(([name, value]) => make('div', {}, make('dt', { text: name }), make('dd', {}, value))))];
}

// What it comes to.
function totalsPart() {
  const { allocated, peak, retained, events, error } = recorded;
  const average = allocated.count > 0 ? `, ${size(allocated.bytes / allocated.count)} on average` : '';
  const card = (name, amount, wrong, more) => make('div', { class: 'card' }, make('h3', { text: name }), make('p', { class: 'large' }, bytes(amount.bytes, view), wrong === undefined ? null : make('span', { class: 'quietly', text: ` ± ${size(wrong)}` })), make('p', { class: 'quietly', text: `${counted(amount.count, 'block')}${more}` }));
  const all = collections(recorded.happenings);
  const collecting = all.reduce((n, c) => n + (c.to === null ? 0 : c.to - c.from), 0);
  const arenas = told(recorded.happenings).filter((row) => row.name.startsWith('arena '));
  const born = arenas.filter((row) => row.name === 'arena born').length;
  const measures = [
    ['Allocations', count(events.allocations), `${count(events.reallocations)} by realloc`], ['Frees', count(events.frees), `${count(events.frees_of_before)} more of what was allocated before`],
    ['Collections', count(all.length), `in ${duration(collecting)}`], ['Arenas of pymalloc', `${count(born)} born`, `${count(arenas.length - born)} died`], ['Threads', count(recorded.threads.length), 'that allocated'],
  ];
  const section = part('totals', 'What it comes to', make('div', { class: 'cards' },
    card('Live at the peak', peak.live, error?.peak, ` at ${duration(peak.at_ns / 1e9)}${peak.rss === null ? '' : ', RSS ' + size(peak.rss)}`),
    card('Retained at the end', retained, error?.retained, ''), card('Allocated in all', allocated, error?.allocated, average)));
  if (sampled) section.append(make('p', { class: 'undecided', text: 'Sampled: sizes and counts are estimates without bias; ± is one standard error. What is small may be missing.' }));
  section.append(make('dl', { class: 'measures callmeasures' }, measures.map(([name, value, more]) => make('div', {}, make('dt', { text: name }), make('dd', {}, make('b', { text: value }), make('span', { class: 'quietly', text: ' ' + more }))))));
  return section;
}

const PART_NAMES = { totals: 'Totals', calls: 'Calls', time: 'Over time', places: 'Lines', happened: 'What happened', threads: 'Threads', notes: 'Notes' };

const [functions, tree, own] = await Promise.all(['functions', 'tree', 'own'].map((name) => island('calls-' + name)));
const calls = new Calls({ functions, tree, own });
// What the page is made of, for a console and for tests.
window.pydefrag = { facts: recorded, state: view, calls };

const sections = [totalsPart(), flamePart(calls, totals, view), timePart(recorded), placesPart(calls, totals, sampled?.every ?? 0, view), happenedPart(recorded, calls, view), threadsPart(recorded, view), saidPart(recorded.notes)].filter(Boolean);
place.replaceChildren(...sections);
place.before(make('a', { class: 'skip', href: '#section=calls', on: { click: (event) => { event.preventDefault(); lead('calls'); } } }, 'To the calls'),
  make('header', { class: 'top' }, make('div', { class: 'brand' }, make('span', { class: 'mark', 'aria-hidden': 'true' }, [1, 2, 3, 4].map((n) => make('span', { class: 'm' + n }))), 'pydefrag', themeSwitch(view)), heading()),
  contents(sections.map((s) => [s.id, PART_NAMES[s.id] ?? s.id]), view));
place.after(make('footer', {}, 'Made by ', alien(recorded.tool), '. This file loads nothing, and says nothing to anyone.'));
watchPopover();
followBytes(view);
view.subscribe(() => history.replaceState(null, '', '#' + view.hash()));
addEventListener('hashchange', () => {
  view.read(location.hash);
  if (view.get('section')) lead(view.get('section'));
});
if (view.get('section')) lead(view.get('section'));
document.documentElement.dataset.ready = 'map';
