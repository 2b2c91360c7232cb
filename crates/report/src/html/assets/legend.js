// Around the map: the buttons above it, the legend, what is lit, and what was selected. Owns these elements; what a
// button does is the view's.
import { count, percent, shown, size } from './text.js';
import { make, alien } from './make.js';
import { RUNGS, RUNG_WORDS } from './terms.js';

// A small picture of a colour and its pattern, as it is in the map.
function swatch(colour, mark, pattern) {
  const canvas = make('canvas', { width: '36', height: '28', 'aria-hidden': 'true' });
  const context = canvas.getContext('2d');
  const css = (word) => `rgb(${word & 255} ${word >> 8 & 255} ${word >> 16 & 255})`;
  context.fillStyle = css(colour);
  context.fillRect(0, 0, 36, 28);
  context.fillStyle = css(mark);
  for (let y = 0; y < 28; y++) {
    for (let x = 0; x < 36; x++) {
      const is = pattern === 1 ? (x + y) % 12 < 2 : pattern === 2 ? x % 6 < 2 && y % 6 < 2 : pattern === 3 ? (x - y + 120) % 12 < 2 : pattern === 4 ? x % 12 < 2 && y % 12 < 2 : false;
      if (is) context.fillRect(x, y, 1, 1);
    }
  }
  return canvas;
}

// Buttons of which one is pressed.
function choice(label, options, pressed, choose) {
  const buttons = options.map((o) => make('button', { type: 'button', 'aria-pressed': String(o.value === pressed), disabled: o.disabled ?? false, title: o.title, 'data-value': o.value, on: { click: () => choose(o.value) } }, o.label, o.small ? make('small', { text: o.small }) : null));
  return make('div', { class: 'hm-group' }, make('span', { text: label }), make('div', { class: 'hm-keys', role: 'group', 'aria-label': label }, buttons));
}

export function fillBar(bar, view) {
  const { heap, state } = view;
  const ladder = heap.look.snapshot?.ladder ?? {};
  const named = heap.named;
  const why = named ? undefined : 'objects were not looked at';
  const colours = choice('Colour by', [{ value: 'state', label: 'state' }, { value: 'type', label: 'type', disabled: !named, title: why }, { value: 'owner', label: 'owner', disabled: !named, title: why }], named ? state.get('colour') : 'state', (colour) => state.set({ colour }));
  const rungs = choice('Show', RUNGS.map((value) => {
    const back = value === 'now' ? null : ladder[value] ?? null;
    return { value, label: value, small: back === null ? null : `−${size(back)}`, disabled: value !== 'now' && back === null, title: RUNG_WORDS[value] };
  }), state.get('rung'), (rung) => state.set({ rung }));
  const zoom = make('div', { class: 'hm-keys hm-zoom', role: 'group', 'aria-label': 'Zoom' }, [['+', 'Zoom in', 1], ['−', 'Zoom out', -1], ['Fit', 'Show all', 0]].map(([label, said, way]) => make('button', { type: 'button', 'aria-label': said, title: said, on: { click: () => (way === 0 ? view.fit() : view.zoomBy(way > 0 ? 2 : 0.5)) } }, label)));
  // Whoever uses the keyboard stays on the button that was pressed.
  const focused = bar.contains(document.activeElement) ? document.activeElement.dataset.value : null;
  bar.replaceChildren(colours, rungs, zoom);
  if (focused) bar.querySelector(`[data-value="${CSS.escape(focused)}"]`)?.focus();
}

// `entries` of the scheme with bytes; each lights up what it stands for.
export function fillLegend(list, view, scheme) {
  const focused = list.contains(document.activeElement) ? [...list.querySelectorAll('button')].indexOf(document.activeElement) : -1;
  const { state } = view;
  const items = scheme.entries.map((e, i) => ({ e, i })).filter(({ e }) => e.bytes > 0).map(({ e, i }) => {
    const pressed = scheme.sort === 'state' ? view.termLit === e.key : e.key !== null && state.get(scheme.sort) === e.key;
    const at = e.key === 'returned' ? scheme.width : i;
    const share = scheme.sort !== 'state' || e.resident ? percent(e.bytes, scheme.whole) : null;
    const button = make('button', { type: 'button', 'aria-pressed': String(pressed), title: shown(e.says ?? e.name ?? '', 300), disabled: scheme.sort !== 'state' && e.key === null, on: { click: () => view.pickEntry(scheme, e) } },
      swatch(scheme.colours[at], scheme.marks[at], scheme.patterns[at]), make('span', { class: 'hm-name', text: shown(e.name, 60) }), make('span', { class: 'hm-amount', text: share ? `${size(e.bytes)} · ${share}` : size(e.bytes) }));
    return make('li', {}, button);
  });
  list.replaceChildren(...items);
  if (focused >= 0) list.querySelectorAll('button')[Math.min(focused, items.length - 1)]?.focus();
}

// What is selected, how much it pins and what would come back.
export function fillLit(place, lit) {
  place.hidden = lit === null;
  if (lit === null) return;
  const { pins, name, what, told } = lit;
  const [own, beside, kept] = lit.colours;
  const key = (word, colour, pattern, says) => make('span', { class: 'hm-swatch' }, swatch(word, colour, pattern), says);
  const pinned = told?.pinned ?? pins.pinned;
  const gone = told?.gone ?? pins.gone;
  const said = pins.blocks === 0 ? [make('span', { text: 'has no block here that is listed.' })]
    : [make('span', {}, `${count(pins.blocks)} blocks, ${size(pins.bytes)}, on `, make('b', { text: count(pins.pages) }), ' OS pages: ', make('b', { text: size(pinned) }), ' pinned, ', make('b', { text: size(gone) }), ' would come back if it were gone.')];
  place.replaceChildren(make('span', {}, `${what} `, alien(name, '', 90)), ...said, key(own, own, 0, 'its blocks'), key(beside, beside, 0, 'others beside them'), key(kept, lit.marks[2], 1, 'free on the same pages'));
}

const hexOf = (n) => '0x' + n.toString(16);

// What a place is, in one line without markup: for the tip, the live region and tests.
export function sayOf(told) {
  const { block, name, page } = told;
  const away = page.swapped ? ', on a page that is swapped out' : page.resident ? '' : ', on a page that is not resident';
  const head = !block ? `${told.term.name}, ${size(told.run.size)}` : !name ? `live block, ${size(block.size)}` : `${name.type === null ? 'a block of no known type' : shown(name.type, 120)}${['object', ''].includes(name.role) ? '' : ' (' + shown(name.role, 30) + ')'}, ${size(block.size)}`;
  return head + away;
}

// The lines of a tip: what, whose, where, its OS page.
export function linesOf(told) {
  const { block, name, page } = told;
  const lines = [[sayOf(told), 'strong']];
  if (block?.slack > 0) lines.push([`${size(block.slack)} of it to spare`]);
  if (name) lines.push([name.owner === null ? 'of an owner that is not listed' : shown(name.owner, 200)]);
  else if (!block) lines.push([told.term.says, 'quiet']);
  lines.push([`${hexOf(block ? block.address : told.run.address)} · ${placeOf(told)}`, 'quiet']);
  lines.push([pageSaid(page), 'quiet']);
  if (page.rung) lines.push([`${page.rung} returns this page`, 'quiet']);
  return lines;
}

export function placeOf({ block, pool, chunk, heap }) {
  if (pool) {
    const held = pool.state === 'in use' ? `pool of ${pool.size} B blocks, ${pool.live} of ${pool.blocks} live` : `pool, ${pool.state}`;
    return block ? `block ${block.slot} of a ${held}` : held;
  }
  return chunk ? `${chunk.kind} of ${size(chunk.size)}, ${shown(heap, 60)}` : shown(heap, 60);
}

export function pageSaid(page) {
  if (page.swapped) return `OS page ${hexOf(page.address)}: swapped out`;
  if (!page.resident) return `OS page ${hexOf(page.address)}: not resident`;
  return `OS page ${hexOf(page.address)}: ${count(page.live)} live ${page.live === 1 ? 'block' : 'blocks'}, ${count(page.free)} B free${page.shared ? ', shared with another process' : ''}`;
}

// The selected block, with ways to its type and its owner.
export function fillPanel(panel, view, told) {
  panel.hidden = told === null;
  if (told === null) return;
  const { state } = view;
  const { block, name, pool, chunk, page, term } = told;
  const pair = (label, ...said) => [make('dt', { text: label }), make('dd', {}, ...said)];
  const rows = [];
  if (block) {
    const asked = block.slack > 0 ? `, ${size(block.slack)} of it to spare` : '';
    rows.push(...pair('size', `${count(block.size)} B${asked}`));
    if (name) {
      rows.push(...pair('role', shown(name.role.replaceAll('_', ' '), 40)));
      rows.push(...pair('owner', name.owner === null ? 'not listed' : alien(name.owner, name.head ?? '', 200)));
    }
  } else {
    rows.push(...pair('what', `${term.name}: ${term.says}`), ...pair('bytes', count(told.run.size)));
  }
  rows.push(...pair('address', make('code', { text: hexOf(block ? block.address : told.run.address) })), ...pair('heap', shown(told.heap, 80)));
  if (pool) rows.push(...pair('pool', make('code', { text: hexOf(pool.address) }), ` ${pool.state}, blocks of ${pool.size} B, ${pool.live} of ${pool.blocks} live`));
  if (chunk) rows.push(...pair('chunk', make('code', { text: hexOf(chunk.address - 8) }), ` ${chunk.kind}, ${count(chunk.size)} B`));
  rows.push(...pair('OS page', pageSaid(page) + (page.rung ? `; ${page.rung} returns it` : '')));
  const to = (field, value, label) => make('button', { type: 'button', class: 'quiet', 'aria-pressed': String(state.get(field) === value), on: { click: () => state.set(state.get(field) === value ? { [field]: '' } : { [field]: value, [field === 'type' ? 'owner' : 'type']: '' }) } }, label);
  const actions = make('div', { class: 'actions noprint' },
    name?.type ? to('type', name.type, state.get('type') === name.type ? 'All again' : `Light up all of type ${shown(name.type, 40)}`) : null,
    name?.head ? to('owner', name.head, state.get('owner') === name.head ? 'All again' : `Light up all that ${shown(name.head, 50)} owns`) : null,
    make('button', { type: 'button', class: 'quiet', on: { click: () => view.show(told.address) } }, 'Show it'));
  panel.replaceChildren(make('header', {}, make('h4', {}, block && name ? alien(name.type ?? 'a block of no known type', '', 120) : block ? 'Live block' : term.name),
    make('button', { type: 'button', class: 'quiet noprint', 'aria-label': 'Close', on: { click: () => view.clearPlace() } }, 'Close')), make('dl', {}, rows), actions);
}
