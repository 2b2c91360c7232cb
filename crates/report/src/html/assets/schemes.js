// What a heap is coloured by: categories with their bytes on each page, their colours and their patterns.
//
// Owns which of the style's colours stands for what. A scheme that knows nothing of a rung's moves (types, owners) is
// given by state instead, and says so.
import { TERM, TERMS, RUNGS } from './terms.js';
import { WIDTH } from './account.js';
import { bytesByCategory, categoriesOf, MOST_COLOURED } from './categories.js';
import { mixed, PATTERN, wordOf } from './paint.js';

const TERM_PATTERNS = { pinned: PATTERN.rising, hole: PATTERN.dots, free: PATTERN.falling, unread: PATTERN.dots, swapped: PATTERN.sparse };
const FADE = 0.82;

// The style's colours by name, as `#rrggbb`.
export function readColours(element) {
  const style = getComputedStyle(element);
  // A canvas says every opaque colour as `#rrggbb`, however it was written.
  const context = document.createElement('canvas').getContext('2d');
  const colour = (name) => {
    context.fillStyle = '#808080';
    context.fillStyle = style.getPropertyValue(name).trim();
    return /^#[0-9a-f]{6}$/.test(context.fillStyle) ? context.fillStyle : '#808080';
  };
  const named = Object.fromEntries(TERMS.map((t) => [t.key, colour('--m-' + t.key)]));
  const of = (prefix) => Array.from({ length: MOST_COLOURED }, (_, i) => colour(`--m-${prefix}${i + 1}`));
  return { ...named, returned: colour('--m-returned'), ground: colour('--m-ground'), ink: colour('--m-ink'), soft: colour('--m-soft'), other: colour('--m-others'), unnamed: colour('--m-unnamed'), rest: colour('--m-rest'), own: colour('--m-own'), beside: colour('--m-beside'), kept: colour('--m-kept'), of: of('') };
}

// Whether blocks can be told apart by what they are at a rung.
export function coloured(heap, colour, rung) {
  return heap.named && colour !== 'state' && RUNGS.indexOf(rung) < RUNGS.indexOf('compact') ? colour : 'state';
}

// Categories, without colours: `entries` of the legend { name, key, bytes, colour, pattern, says }.
export function schemeOf(heap, colour, rung) {
  const view = heap.accounts.view(rung);
  const base = { view, back: view.back };
  if (coloured(heap, colour, rung) === 'state') {
    const sums = heap.sums(rung).all;
    const entries = TERMS.map((t) => ({ name: t.name, key: t.key, bytes: sums[t.key], colour: t.key, pattern: TERM_PATTERNS[t.key] ?? 0, says: t.says, resident: t.account !== null }));
    if (rung !== 'now') entries.push({ name: 'given back', key: 'returned', bytes: sums.returned, colour: 'returned', pattern: PATTERN.sparse, says: 'OS pages that this rung returns', resident: false });
    return { ...base, sort: 'state', width: WIDTH, bytes: view.terms, entries, whole: sums.resident, ofRun: (term) => term, absent: (page) => (view.flags[page] & 4 ? TERM.swapped : TERM.absent) };
  }
  const { list, of } = categoriesOf(heap, colour);
  const entries = list.map((c, i) => ({ ...c, colour: c.unnamed ? 'unnamed' : c.other ? 'other' : i, pattern: c.unnamed ? PATTERN.dots : 0 }));
  const whole = list.reduce((n, c) => n + c.bytes, 0);
  const free = list.length;
  return {
    ...base, sort: colour, width: list.length + 2, bytes: bytesByCategory(heap, of, list.length + 2), entries, whole,
    ofRun: (_, block) => (block >= 0 ? of[heap.blocks[block]] : free), absent: () => free + 1,
  };
}

// A scheme with the style's colours as words of an image. `term`: the category that the reader lit up, or null.
export function painted(scheme, colours, term) {
  const ground = wordOf(colours.ground);
  const own = (entry) => wordOf(typeof entry.colour === 'number' ? colours.of[entry.colour] : colours[entry.colour]);
  const blocks = scheme.sort === 'state' ? scheme.entries.slice(0, WIDTH).map(own) : [...scheme.entries.map(own), wordOf(colours.rest), wordOf(colours.absent)];
  const all = [...blocks, wordOf(colours.returned)];
  const keys = scheme.entries.map((e) => e.key);
  const chosen = all.map((c, i) => (term === null || keys[i] === term || (i === scheme.width && term === 'returned') ? c : mixed(c, ground, FADE)));
  const patterns = scheme.sort === 'state' ? scheme.entries.slice(0, WIDTH).map((e) => e.pattern) : [...scheme.entries.map((e) => e.pattern), 0, 0];
  const marks = chosen.map((c) => mixed(c, wordOf(colours.ink), 0.24));
  marks[scheme.width] = wordOf(colours.soft);
  return { ...scheme, ground, colours: chosen, marks, patterns: [...patterns, PATTERN.sparse] };
}

// How a selection is lit: its blocks, what else is live on their pages, what is free there; all else faded.
export function litBy(pins, chosen, scheme, colours, heap) {
  const ground = wordOf(colours.ground);
  const { terms } = heap.accounts.view('now');
  const words = [colours.own, colours.beside, colours.kept].map(wordOf);
  return {
    own: pins.own, chosen, colours: words, marks: words.map((w) => mixed(w, ground, 0.45)),
    faded: scheme.colours.map((c) => mixed(c, ground, FADE)), live: (page) => terms[page * WIDTH + TERM.live] + terms[page * WIDTH + TERM.slack],
  };
}
