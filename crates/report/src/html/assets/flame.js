// The calls on a canvas, and what a pointer or a key does there. Owns colours, labels, the words of a rectangle. Where
// rectangles lie is `icicle.js`'s.
import { count, counted, exact, percent, shown, size } from './text.js';
import { AMOUNTS, functionName, shortPath, sortOf } from './calls.js';
import { beside, icicle, rectAt, rectOf } from './icicle.js';
import { absent, alien, make, part } from './make.js';

const ROW = 19;
// Rows that are drawn: what lies deeper is reached by going there.
const MOST_ROWS = 60;
// Characters of a label's font, about.
const LETTER = 6.4;
// Ways to a call that are shown as buttons, from both ends.
const MOST_STEPS = 8;

export const AMOUNT_NAMES = { peak: 'live at the peak', retained: 'retained at the end', allocated: 'allocated in all' };
const SORT_NAMES = { own: 'the program', package: 'packages', library: 'standard library', outside: 'outside Python' };
const SORT_COLOURS = { own: '--c-live', package: '--c-native', library: '--c-files', outside: '--c-rss' };

export function flamePart(calls, totals, state) {
  const section = part('calls', 'Who allocated', make('p', { class: 'about' }, 'Each box is a line of a function, below the line that called it, and as wide as what it and all that it called allocated. A click goes there; the arrow keys move, Enter goes there, Escape goes back.'));
  if (calls.problem !== null) section.append(absent(`The calls could not be read: ${calls.problem}.`));
  else if (calls.count === 0) section.append(absent('Nothing was recorded.'));
  else section.append(new Flame(calls, totals, state).element);
  return section;
}

export class Flame {
  // `totals`: bytes of each amount.
  constructor(calls, totals, state) {
    Object.assign(this, { calls, totals, state, width: 0, layout: null, chosen: null, over: null });
    this.canvas = make('canvas', { tabindex: '0', role: 'application', 'aria-roledescription': 'tree of calls', 'aria-label': 'Calls and what they allocated', 'aria-describedby': 'call-said' });
    this.frame = make('div', { class: 'callframe' }, this.canvas);
    this.tip = make('div', { class: 'calltip', hidden: true, 'aria-hidden': 'true' });
    this.said = make('output', { id: 'call-said', class: 'callsaid' });
    this.way = make('nav', { class: 'callway noprint', 'aria-label': 'The way to what is shown' });
    this.found = make('span', { class: 'told', role: 'status' });
    this.tabs = AMOUNTS.map((amount) => make('button', { type: 'button', 'data-amount': amount, 'aria-pressed': 'false', on: { click: () => state.set({ amount }) } }, `${AMOUNT_NAMES[amount]}: ${size(totals[amount])}`));
    this.seek = make('input', { type: 'search', placeholder: 'Light up functions', 'aria-label': 'Light up functions by name or path', spellcheck: 'false', autocomplete: 'off', maxlength: '200', on: { input: () => state.set({ seek: this.seek.value }) } });
    const legend = make('p', { class: 'legend' }, Object.keys(SORT_NAMES).map((sort) => make('span', { class: 'key' }, make('span', { class: 'keymark call-' + sort, 'aria-hidden': 'true' }), SORT_NAMES[sort])));
    this.element = make('div', { class: 'calls' }, make('div', { class: 'calltools noprint' }, make('div', { class: 'choice', role: 'group', 'aria-label': 'What the widths stand for' }, this.tabs), make('div', { class: 'tools' }, this.found, this.seek)), legend, this.way, this.frame, this.said, this.tip);
    this.listen();
    this.follow();
  }

  listen() {
    const { canvas, state } = this;
    canvas.addEventListener('pointermove', (event) => this.hover(event));
    canvas.addEventListener('pointerleave', () => this.hover(null));
    canvas.addEventListener('click', (event) => this.go(this.at(event)));
    canvas.addEventListener('keydown', (event) => this.key(event));
    canvas.addEventListener('focus', () => this.choose(this.chosen ?? this.layout?.rects[0] ?? null));
    state.subscribe((_, changed) => {
      if (['amount', 'zoom', 'seek', 'bytes'].some((n) => changed.includes(n))) this.follow();
      else if (changed.includes('theme')) this.paint();
    });
    new ResizeObserver(() => this.resize()).observe(this.frame);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.paint());
  }

  get amount() {
    return AMOUNTS.includes(this.state.get('amount')) ? this.state.get('amount') : 'peak';
  }

  // The call that is drawn widest: one that has anything of what is shown.
  get root() {
    const call = Number(this.state.get('zoom'));
    return Number.isInteger(call) && call > 0 && call < this.calls.count && this.calls.total[this.amount][call] > 0 ? call : 0;
  }

  resize() {
    const width = Math.floor(this.frame.clientWidth);
    if (width > 0 && width !== this.width) {
      this.width = width;
      this.arrange();
    }
  }

  // The view is another one.
  follow() {
    for (const tab of this.tabs) tab.setAttribute('aria-pressed', String(tab.dataset.amount === this.amount));
    if (this.seek.value !== this.state.get('seek')) this.seek.value = this.state.get('seek');
    this.lit = this.calls.seek(this.state.get('seek'));
    if (this.lit) {
      const { bytes, calls } = this.calls.heldBy(this.lit, this.amount);
      this.found.textContent = `${counted(calls, 'call')}, ${size(bytes)} with what they called (${percent(bytes, this.totals[this.amount])})`;
    } else {
      this.found.textContent = '';
    }
    this.arrange();
  }

  arrange() {
    if (this.width === 0) return;
    this.layout = icicle(this.calls, this.amount, this.root, this.width, MOST_ROWS);
    this.chosen = this.layout.rects[0] ?? null;
    this.over = null;
    this.tell(this.chosen);
    this.walk();
    this.paint();
  }

  // The way from all calls to the one that is drawn widest.
  walk() {
    const way = this.calls.stack(this.root);
    const step = (call, last) => make('button', { type: 'button', class: 'quiet', 'aria-current': last ? 'true' : null, on: { click: () => this.zoom(call) } }, shown(functionName(this.calls.of(call)), 40));
    const steps = way.length <= MOST_STEPS ? way : [...way.slice(0, 2), null, ...way.slice(3 - MOST_STEPS)];
    this.way.replaceChildren(...steps.flatMap((call, i) => [i > 0 ? make('span', { 'aria-hidden': 'true', text: ' › ' }) : '', call === null ? make('span', { class: 'quietly', text: `${count(way.length - MOST_STEPS + 1)} calls` }) : step(call, i === steps.length - 1)]));
    this.way.hidden = way.length === 1;
  }

  zoom(call) {
    this.state.set({ zoom: call > 0 ? String(call) : '' });
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    if (!this.layout || box.width === 0) return null;
    return rectAt(this.layout, (event.clientX - box.left) * this.width / box.width, Math.floor((event.clientY - box.top) / ROW));
  }

  go(rect) {
    if (!rect) return;
    this.chosen = rect;
    // Of several together there is no one to go to, but to their caller.
    const call = rect.call < 0 ? rect.parent : rect.call;
    if (call === this.root) this.zoom(this.calls.parent[call]);
    else this.zoom(call);
  }

  key(event) {
    if (!this.chosen || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Enter' || event.key === ' ') this.go(this.chosen);
    else if (event.key === 'Escape' || event.key === 'Backspace') {
      const from = this.root;
      this.zoom(this.calls.parent[from]);
      this.choose(rectOf(this.layout, this.calls, from) ?? this.chosen);
    } else if (/^(Arrow|Home)/.test(event.key)) this.choose(beside(this.layout, this.chosen, event.key));
    else return;
    event.preventDefault();
  }

  choose(rect) {
    this.chosen = rect;
    this.tell(rect);
    this.paint();
  }

  hover(event) {
    const rect = event && this.at(event);
    if (rect !== this.over) {
      this.over = rect;
      this.canvas.classList.toggle('on', rect !== null);
      this.paint();
    }
    this.tip.hidden = !rect;
    if (!rect) return;
    this.tip.replaceChildren(...this.words(rect));
    const width = Math.min(420, document.documentElement.clientWidth - 24);
    const left = Math.max(12, Math.min(event.clientX + 14, document.documentElement.clientWidth - width - 12));
    Object.assign(this.tip.style, { maxWidth: width + 'px', left: left + 'px', top: event.clientY + 18 + 'px' });
    const box = this.tip.getBoundingClientRect();
    if (box.bottom > innerHeight) this.tip.style.top = Math.max(event.clientY - box.height - 12, 4) + 'px';
  }

  tell(rect) {
    this.said.replaceChildren(...(rect ? this.words(rect) : ['Nothing here is ' + AMOUNT_NAMES[this.amount] + '.']));
  }

  // What a rectangle is.
  words(rect) {
    const { calls, amount } = this;
    const say = this.state.get('bytes') === 'exact' ? exact : size;
    const whole = ` ${say(rect.bytes)}, ${percent(rect.bytes, this.totals[amount])} of all that is ${AMOUNT_NAMES[amount]}`;
    if (rect.call < 0) return [make('b', { text: counted(rect.count, 'call') + ' together, each too narrow to be seen' }), make('span', { text: whole })];
    const { file } = calls.of(rect.call);
    const line = calls.lineOf(rect.call);
    const own = calls.own[amount][rect.call];
    const itself = `; itself ${say(own)}${own > 0 ? ' in ' + counted(calls.blocks[amount][rect.call], 'block') : ''}`;
    return [make('b', {}, alienText(functionName(calls.of(rect.call)))), ' ', file === '' ? '' : make('span', { class: 'quietly' }, alienText(shortPath(file) + (line > 0 ? ':' + line : ''))), make('span', { class: 'callsize', text: whole + itself + (rect.deeper ? '; what it called lies deeper: go there' : '') })];
  }

  paint() {
    if (!this.layout) return;
    const { canvas, layout } = this;
    const ratio = Math.min(3, devicePixelRatio || 1);
    const height = Math.max(layout.byRow.length, 1) * ROW;
    canvas.width = Math.round(this.width * ratio);
    canvas.height = Math.round(height * ratio);
    Object.assign(canvas.style, { width: this.width + 'px', height: height + 'px' });
    const pen = canvas.getContext('2d');
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const look = this.colours();
    pen.font = '12px system-ui, sans-serif';
    pen.textBaseline = 'middle';
    for (const rect of layout.rects) this.box(pen, rect, look);
    for (const [rect, colour, wide] of [[this.over, look.ink, 1], [this.chosen, look.accent, 2]]) {
      if (!rect) continue;
      pen.strokeStyle = colour;
      pen.lineWidth = wide;
      pen.strokeRect(rect.x + wide / 2, rect.row * ROW + wide / 2, Math.max(rect.width - wide, 1), ROW - 1 - wide);
    }
  }

  box(pen, rect, look) {
    const y = rect.row * ROW;
    const width = Math.max(rect.width - 0.5, 0.5);
    const lit = rect.call > 0 && this.lit?.[this.calls.function[rect.call]] === true;
    const colour = lit ? look.accent : rect.call < 0 ? look.line : rect.call === 0 ? look.sunk : look.of(this.calls.of(rect.call), this.calls.function[rect.call], this.lit !== null);
    pen.fillStyle = colour;
    pen.fillRect(rect.x, y, width, ROW - 1);
    const room = Math.floor((width - 6) / LETTER);
    if (room < 3) return;
    const said = rect.call < 0 ? counted(rect.count, 'call') : functionName(this.calls.of(rect.call));
    pen.fillStyle = inkOn(colour);
    pen.save();
    pen.beginPath();
    pen.rect(rect.x, y, width - 2, ROW);
    pen.clip();
    pen.fillText(shown(said, room) + (rect.deeper ? ' ⋯' : ''), rect.x + 4, y + ROW / 2);
    pen.restore();
  }

  // The page's colours as they are now.
  colours() {
    const style = getComputedStyle(this.element);
    const read = (name) => parsed(style.getPropertyValue(name));
    const ground = read('--paper');
    const sorts = Object.fromEntries(Object.entries(SORT_COLOURS).map(([sort, name]) => [sort, read(name)]));
    return {
      ink: rgb(read('--ink')), accent: rgb(read('--accent')), line: rgb(read('--line')), sunk: rgb(read('--sunk')),
      // Neighbours differ a little; what is not lit up steps back.
      of: (named, number, dim) => rgb(blended(sorts[sortOf(named)], ground, dim ? 0.25 : 0.62 + 0.38 * (number * 2654435761 % 97) / 97)),
    };
  }
}

// A text of the program's in a place where nothing may be pressed.
function alienText(text) {
  return make('bdi', { class: 'alien', text: shown(text, 200) });
}

// #rrggbb as numbers.
function parsed(colour) {
  const found = /^\s*#([0-9a-f]{6})\s*$/i.exec(colour);
  const n = found ? parseInt(found[1], 16) : 0x808080;
  return [n >> 16, n >> 8 & 255, n & 255];
}

function blended(a, b, share) {
  return a.map((v, i) => Math.round(v * share + b[i] * (1 - share)));
}

function rgb(colour) {
  return `rgb(${colour.join(' ')})`;
}

// Black or white, whichever is read on a colour.
export function inkOn(colour) {
  const [r, g, b] = colour.match(/\d+/g).map((v) => {
    const c = v / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? '#000' : '#fff';
}
