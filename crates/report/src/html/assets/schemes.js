// Colourings of the map: what its bytes are told apart by, and how each is drawn. Owns the colours of types and owners;
// those of the account's terms are the page's (`--c-…` in `style.css`), so that a term looks the same everywhere.
import { TERM, TERMS, PAGE } from './terms.js';
import { bytesByCategory, categoriesOf } from './categories.js';
import { mixed, PATTERN, wordOf } from './paint.js';

// Twelve that eyes of all kinds tell apart by hue or lightness (after Paul Tol's muted and bright schemes); each second
// one is hatched besides.
const SOME = {
  light: ['#1a31a1', '#e9661d', '#73b0f6', '#750823', '#5d84ea', '#ef9b5d', '#502963', '#ae6e6f', '#5951d3', '#b33110', '#7a649f', '#7e3f5c'],
  dark: ['#5ca9fa', '#d96a39', '#99fbe7', '#efc70c', '#8175fd', '#d78baa', '#6fddb3', '#bf4438', '#c1c0f7', '#dcf491', '#aa60ba', '#b3b167'],
};
const TERM_PATTERNS = { pinned: PATTERN.rising, hole: PATTERN.dots, free: PATTERN.falling, virgin: PATTERN.sparse, swapped: PATTERN.dots };

// The page's colours as they are now, light or dark: name -> `#rrggbb`.
export function pageColours(element) {
  const style = getComputedStyle(element);
  const read = (name) => {
    const value = style.getPropertyValue('--' + name).trim();
    return /^#[0-9a-f]{6}$/i.test(value) ? value : '#808080';
  };
  const names = ['paper', 'sunk', 'line', 'ink', 'soft', 'accent', ...TERMS.map((t) => 'c-' + t.key)];
  const colours = Object.fromEntries(names.map((n) => [n, read(n)]));
  const light = parseInt(colours.paper.slice(1, 3), 16) > 128;
  // What is not there is nearly the paper; what is another's, grey.
  return { ...colours, light, 'c-absent': colours.sunk, 'c-other': colours['c-metadata'], 'c-swapped': colours.line };
}

// A scheme for the painter. `sort`: state, type or owner. `entries` are what a legend lists: { name, colour, pattern,
// bytes, key, says }.
export function schemeOf(heap, sort, rung, colours) {
  const view = heap.accounts.view(rung);
  const made = sort === 'state' || !heap.blocks ? byTerm(heap, view, rung, colours) : byName(heap, view, sort, colours);
  const words = [...made.entries.map((e) => e.colour), colours.paper].map(wordOf);
  const ink = wordOf(colours.light ? '#000000' : '#ffffff');
  const ground = wordOf(colours.paper);
  return {
    ...made, view, back: view.back, ground, width: made.entries.length, colours: words,
    marks: [...words.slice(0, -1).map((w) => mixed(w, ink, 0.28)), mixed(ground, wordOf(colours.accent), 0.55)],
    patterns: [...made.entries.map((e) => e.pattern), PATTERN.sparse],
  };
}

function byTerm(heap, view, rung, colours) {
  const sums = heap.sums(rung).all;
  const entries = TERMS.map((t) => ({ name: t.name, key: t.key, says: t.says, colour: colours['c-' + t.key], pattern: TERM_PATTERNS[t.key] ?? PATTERN.none, bytes: sums[t.key] }));
  return { entries, bytes: view.terms, ofRun: (term) => term, absent: (page) => (heap.flags[page] & PAGE.swapped ? TERM.swapped : TERM.absent) };
}

// Types or owners, then what is free, then what is not there.
function byName(heap, view, sort, colours) {
  heap.kept ??= {};
  const { list, of, bytes } = heap.kept[sort] ??= named(heap, sort);
  const some = SOME[colours.light ? 'light' : 'dark'];
  const entries = list.map((c, i) => ({
    ...c, sort, colour: c.unnamed ? colours['c-virgin'] : c.other ? colours['c-metadata'] : some[i % some.length],
    pattern: c.key !== null && i % 2 === 1 ? PATTERN.rising : PATTERN.none,
  }));
  const free = list.length;
  entries.push({ name: 'free or the allocator’s', key: null, colour: colours.line, pattern: PATTERN.none, bytes: null }, { name: 'not resident', key: null, colour: colours['c-absent'], pattern: PATTERN.none, bytes: null });
  const gone = free + 1;
  const ofRun = (term, block) => {
    if (block >= 0) return of[heap.blocks[block]];
    if (block === -2) return list.length - 2;
    return term === TERM.absent || term === TERM.swapped ? gone : free;
  };
  return { entries, bytes, ofRun, absent: () => gone };
}

function named(heap, sort) {
  const { list, of } = categoriesOf(heap, sort);
  const width = list.length + 2;
  const bytes = bytesByCategory(heap, of, width);
  for (let page = 0; page < heap.flags.length; page++) {
    const at = page * width + list.length;
    if (!heap.resident(page)) continue;
    bytes[at] = bytes[at + 1];
    bytes[at + 1] = 0;
  }
  return { list, of, bytes };
}

// What a selection lights up, for the painter: its own blocks, other live ones on the same OS pages, the rest of those
// pages; all else fades.
export function lightOf(heap, selection, pins, chosen, scheme, colours) {
  const live = heap.accounts.view('now').terms;
  const ground = wordOf(colours.paper);
  const lit = [colours.accent, colours['c-live'], colours['c-pinned']].map(wordOf);
  return {
    own: pins.own, chosen, colours: [lit[0], mixed(lit[1], ground, 0.35), lit[2]], marks: lit.map((w) => mixed(w, ground, 0.45)),
    faded: scheme.colours.map((w) => mixed(w, ground, 0.86)), live: (page) => live[page * TERMS.length + TERM.live] + live[page * TERMS.length + TERM.slack],
  };
}
