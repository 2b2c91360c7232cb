// What is said of a byte of the map, of a block and of a selection. Owns the words; where they stand is the map's.
import { OS_PAGE, PAGE, RUNGS, TERMS, TILE_WORDS, rungOf } from './terms.js';
import { count, counted, shown, size } from './text.js';
import { Runs } from './runs.js';
import { alien, make } from './make.js';

// Owners of a free byte's neighbours that are named.
const MOST_KEEPERS = 4;

export const hex = (address) => '0x' + address.toString(16);

// What stands at an OS page's byte: { page, offset, address, block, name, term, returned }; null outside the heap.
export function found(heap, rung, page, offset) {
  if (page < 0 || page >= heap.flags.length) return null;
  const address = heap.addressOf(page) + offset;
  const view = heap.accounts.view(rung);
  const block = heap.blockAt(address);
  const term = heap.resident(page) ? termAt(heap, view, page, offset) : heap.flags[page] & PAGE.swapped ? 'swapped' : 'not resident';
  return { page, offset, address, block, name: block ? heap.nameOf(block.number) : null, term, returned: view.back[page] === 1 };
}

function termAt(heap, view, page, offset) {
  const runs = new Runs().of(heap, view, page);
  let i = 0;
  while (i + 1 < runs.count && runs.start[i + 1] <= offset) i++;
  return TERMS[runs.term[i]]?.name ?? 'unknown';
}

// One line, for the eye that follows the pointer and for a voice.
export function lineOf(heap, at) {
  if (at === null) return '';
  const where = hex(at.address);
  if (!at.block) return `${at.returned ? 'given back' : at.term} at ${where}`;
  const what = at.name ? nameOf(at.name) : 'live block';
  const slack = heap.slackOf(at.block.number);
  return `${what}, ${size(at.block.size)}${slack > 0 ? `, of it ${size(slack)} slack` : ''}, at ${hex(at.block.address)}${at.returned ? ', given back' : ''}`;
}

function nameOf({ type, role }) {
  const of = type === null ? 'block of no known type' : shown(type, 60);
  return role === 'object' || type === null ? of : `${of} (${roleOf(role)})`;
}

// What a block is of an object, in words. One of a few, but a file may say anything.
function roleOf(role) {
  return shown(role, 60).replace('_', ' ');
}

// All of it, with ways on: to its type, to its owner.
export function cardOf(heap, at, choose) {
  const rows = [];
  const row = (name, ...said) => rows.push(make('div', {}, make('dt', { text: name }), make('dd', {}, ...said)));
  const { block, name, page } = at;
  if (block) {
    row('block', make('code', { text: hex(block.address) }), `, ${count(block.size)} B`);
    if (name) {
      row('type', name.type === null ? 'not known' : make('button', { type: 'button', class: 'quiet', on: { click: () => choose({ type: name.type, owner: '' }) } }, alien(name.type, '', 80)), name.role !== 'object' ? ` ${roleOf(name.role)}` : '');
      row('owner', name.head === null ? 'not listed' : make('button', { type: 'button', class: 'quiet', on: { click: () => choose({ owner: name.head, type: '' }) } }, alien(name.owner ?? name.head, name.head, 120)));
    } else {
      row('type', 'not known: objects were not looked at');
    }
    const slack = heap.slackOf(block.number);
    if (slack > 0) row('slack', `${count(slack)} B of room to spare`);
  } else {
    row('here', `${at.term}, at `, make('code', { text: hex(at.address) }));
  }
  if (!block && heap.resident(page)) {
    const { where, keepers } = keptBy(heap, page);
    const most = keepers.slice(0, MOST_KEEPERS);
    const said = most.map((k) => make('span', { class: 'keeper' }, make('button', { type: 'button', class: 'quiet', on: { click: () => choose({ owner: k.head, type: '' }) } }, alien(k.owner ?? k.head, k.head, 100)), ` ${counted(k.blocks, 'block')} of ${size(k.bytes)}`));
    if (keepers.length > most.length) said.push(`and ${counted(keepers.length - most.length, 'other')}`);
    if (said.length > 0) row('kept by', `on the same ${where}: `, said);
  }
  row('in', unitOf(heap, page, at.address));
  row('OS page', pageOf(heap, at));
  return make('dl', { class: 'mapfacts' }, rows);
}

function unitOf(heap, page, address) {
  const unit = heap.unit[page];
  const heapName = heap.heaps[heap.regions.heap[heap.regionOfPage(page)]].name;
  if (unit === -2) return `a pool of ${shown(heapName, 60)} that was never carved`;
  if (unit < 0) return `${shown(heapName, 60)}, outside its pools`;
  if (!heap.isPool(page)) {
    const tile = heap.tileAt(page, address);
    return `${shown(heapName, 60)}: ${TILE_WORDS[heap.tiles.kind[tile]]} of ${size(heap.tiles.size[tile])}`;
  }
  const { state, carved } = heap.pools;
  if (state[unit] !== 0) return `a ${state[unit] === 1 ? 'free pool' : 'pool that could not be read'} of ${shown(heapName, 60)}`;
  return `a pool of ${heap.blockSize(unit)} B blocks of ${shown(heapName, 60)}: ${count(heap.liveIn(unit))} of ${count(carved[unit])} carved ones are live`;
}

// Who has live blocks on these OS pages, those with most bytes first: { head, owner, blocks, bytes }.
export function keepersOf(heap, from, upto) {
  const view = heap.accounts.view('now');
  const runs = new Runs();
  const keepers = new Map();
  const seen = new Set();
  for (let page = from; page < upto; page++) {
    if (!heap.resident(page)) continue;
    runs.of(heap, view, page);
    for (let i = 0; i < runs.count; i++) {
      const block = runs.block[i];
      const name = heap.nameOf(block);
      if (!name || name.head === null) continue;
      const keeper = keepers.get(name.head) ?? { head: name.head, owner: name.owner, blocks: 0, bytes: 0 };
      if (!seen.has(block)) keeper.blocks++;
      seen.add(block);
      keeper.bytes += runs.end(i) - runs.start[i];
      keepers.set(name.head, keeper);
    }
  }
  return [...keepers.values()].sort((a, b) => b.bytes - a.bytes || (a.head < b.head ? -1 : 1));
}

// What is free is kept by what lives on the same OS page; where nothing does, by what lives in the same pool.
function keptBy(heap, page) {
  const here = keepersOf(heap, page, page + 1);
  if (here.length > 0) return { where: 'OS page', keepers: here };
  const unit = heap.unit[page];
  if (unit < 0 || !heap.isPool(page)) return { where: '', keepers: [] };
  const first = heap.pools.page[unit];
  return { where: 'pool', keepers: keepersOf(heap, first, first + heap.poolSize / OS_PAGE) };
}

function pageOf(heap, { page, returned }) {
  const flags = heap.flags[page];
  if (flags & PAGE.swapped) return 'swapped out';
  if (!(flags & PAGE.resident)) return 'not resident';
  const runs = new Runs().of(heap, heap.accounts.view('now'), page);
  const blocks = new Set();
  let live = 0;
  for (let i = 0; i < runs.count; i++) {
    if (runs.block[i] < 0) continue;
    blocks.add(runs.block[i]);
    live += runs.end(i) - runs.start[i];
  }
  const rung = rungOf(flags);
  const back = returned ? '; given back at this rung' : rung > 0 ? `; ${RUNGS[rung]} gives it back` : '';
  return `resident${flags & PAGE.exclusive ? '' : ', shared with another process'}; ${counted(blocks.size, 'live block')} of ${size(live)} on it${back}`;
}

// What a selection pins, by the map itself.
export function pinnedLine(pins) {
  return `${counted(pins.blocks, 'block')} of ${size(pins.bytes)} on ${counted(pins.pages, 'OS page')}; ${size(pins.pinned)} pinned beside them`;
}
