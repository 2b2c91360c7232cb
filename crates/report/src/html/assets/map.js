// The heap map: a heap on a canvas, folded, zoomed, coloured and lit, and what it says of the place under the pointer.
//
// Owns the elements of one map and when it is drawn. Where things are is `folding.js`, how pixels come about `paint.js`,
// what colours mean `schemes.js`. Nothing is drawn twice in a frame; the pointer draws on a canvas of its own.
import { size, shown, count } from './text.js';
import { describe, nextBlock } from './describe.js';
import { Folding } from './folding.js';
import { BLOCKS_FROM, Painter } from './paint.js';
import { coloured, litBy, painted, readColours, schemeOf } from './schemes.js';
import { groupsOf } from './pins.js';
import { RUNGS, RUNG_WORDS, OS_PAGE } from './terms.js';
import { make } from './make.js';
import { fillBar, fillLegend, fillLit, fillPanel, linesOf, placeOf, sayOf } from './legend.js';
import { regionsTable } from './regions.js';
import { listen } from './pointing.js';

const STRIP_HEIGHT = 26;
const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

export class MapView {
  // `element`: what it fills; `heap`: a Heap; `state`: a State. `options`: `strip` (one thin row that does not zoom, for a
  // process of a tree), `bytesPerRow` (so that two heaps are on one scale), `look` (which look of the page it is).
  constructor(element, heap, state, options = {}) {
    Object.assign(this, { element, heap, state, options });
    this.look = String(options.look ?? heap.index);
    this.lastFrame = 0;
    this.lastHover = 0;
    this.termLit = null;
    this.cursor = null;
    this.place = null;
    element.replaceChildren();
    if (heap.problem !== null || heap.heaps.length === 0) {
      const why = heap.problem === null ? 'No heap was walked: there is nothing to draw.' : heap.look.map ? `The map cannot be drawn: ${shown(heap.problem, 200)}.` : 'There is no map of this heap.';
      element.append(make('p', { class: 'absent', text: why }));
      this.folding = new Folding([], { width: 1, height: 1 });
      return;
    }
    this.painter = new Painter(heap);
    this.build();
    this.follow(null);
    this.watch();
  }

  build() {
    const strip = this.options.strip ?? false;
    this.base = make('canvas', { class: 'hm-base', tabindex: '0', role: strip ? 'img' : 'application', 'aria-roledescription': 'heap map', 'aria-label': this.summary() });
    this.over = make('canvas', { class: 'hm-over', 'aria-hidden': 'true' });
    this.tip = make('div', { class: 'hm-tip', hidden: true });
    this.window = make('div', { class: 'hm-window' }, this.base, this.over, this.tip);
    this.element.append(this.root = make('div', { class: strip ? 'hm strip' : 'hm' }));
    if (strip) {
      this.base.removeAttribute('tabindex');
      this.root.append(this.window);
      this.base.addEventListener('pointermove', (e) => this.hoverAt(e.offsetX, e.offsetY));
      this.base.addEventListener('pointerleave', () => this.leave());
      return;
    }
    this.bar = make('div', { class: 'hm-bar noprint' });
    this.note = make('p', { class: 'hm-note', role: 'status' });
    this.litPlace = make('div', { class: 'hm-lit', hidden: true, role: 'status' });
    this.legend = make('ul', { class: 'hm-legend', 'aria-label': 'Legend' });
    this.live = make('div', { class: 'visually-hidden', 'aria-live': 'polite', role: 'status' });
    this.panel = make('section', { class: 'hm-panel', hidden: true, 'aria-label': 'Selected block' });
    this.hinted = make('p', { class: 'hm-hint noprint', text: HINT });
    this.root.append(this.bar, this.note, this.litPlace, this.window, this.legend, this.panel, this.hinted, regionsTable(this.heap, this.state, Number(this.look)), this.live);
    listen(this.base, this);
    this.base.addEventListener('focus', () => this.drawOver());
    this.base.addEventListener('blur', () => this.drawOver());
  }

  summary() {
    const { all } = this.heap.sums();
    return `Map of ${count(this.heap.heaps.length)} heaps, ${size(all.resident)} resident, ${size(all.live + all.slack)} live, ${size(all.pinned)} pinned. Arrows move, plus and minus zoom, Enter selects, Escape clears.`;
  }

  watch() {
    this.state.subscribe((_, changed) => this.follow(changed));
    this.resizes = new ResizeObserver(() => this.window.clientWidth !== this.width && this.resize());
    this.resizes.observe(this.window);
    const recolour = () => {
      this.colours = null;
      this.refresh();
    };
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', recolour);
    // Paper is light whatever the screen is, and no frame comes before it is printed.
    matchMedia('print').addEventListener('change', () => {
      recolour();
      this.drawNow();
    });
    new MutationObserver(recolour).observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] });
  }

  get zoomed() {
    return this.folding.zoom > 1.001 || this.folding.contentHeight() > this.folding.height + 1;
  }

  // Takes over what the state says; `changed`: the fields, or null for all.
  follow(changed) {
    const has = (...names) => changed === null || names.some((n) => changed.includes(n));
    if (has('colour', 'rung')) {
      this.termLit = null;
      this.scheme = null;
    }
    if (has('type', 'owner')) this.selection = null;
    if (has('at', 'look')) this.followPlace(changed);
    if (has('colour', 'rung', 'type', 'owner', 'at', 'look')) this.refresh();
  }

  followPlace(changed) {
    const at = this.state.get('at');
    const mine = this.state.get('look') === this.look;
    const address = mine && /^(0x)?[0-9a-f]{1,13}$/i.test(at) ? parseInt(at.replace(/^0x/i, ''), 16) : NaN;
    this.place = Number.isNaN(address) ? null : describe(this.heap, address);
    // Who was led here from elsewhere is shown the place.
    if (this.place && !this.own && !this.options.strip) this.toShow = address;
    if (changed !== null && this.toShow !== undefined && this.folding) this.showPending();
  }

  showPending() {
    const address = this.toShow;
    this.toShow = undefined;
    if (address !== undefined) this.show(address);
  }

  rung() {
    return RUNGS.includes(this.state.get('rung')) ? this.state.get('rung') : 'now';
  }

  // Everything around the picture, and the picture in the next frame.
  refresh() {
    if (!this.root) return;
    if (!this.folding) this.resize();
    this.colours ??= readColours(this.root);
    const colour = this.state.get('colour');
    this.scheme ??= schemeOf(this.heap, ['type', 'owner'].includes(colour) ? colour : 'state', this.rung());
    this.selected();
    this.paintScheme = painted(this.scheme, this.colours, this.termLit);
    this.lit = this.selection ? { ...litBy(this.selection.pins, this.selection.chosen, this.paintScheme, this.colours, this.heap), ...this.selection } : null;
    if (!this.options.strip) {
      fillBar(this.bar, this);
      fillLegend(this.legend, this, this.paintScheme);
      fillLit(this.litPlace, this.lit);
      fillPanel(this.panel, this, this.place);
      this.note.textContent = this.noted(colour);
      this.note.hidden = this.note.textContent === '';
    }
    this.schedule();
  }

  noted(colour) {
    const rung = this.rung();
    const said = [];
    if (rung !== 'now') {
      const { all, unplaced } = this.heap.sums(rung);
      said.push(`${rung}: ${RUNG_WORDS[rung]}. ${size(all.returned)} of these heaps came back, ${size(all.resident)} stay.`);
      if (unplaced > 0) said.push(`${size(unplaced)} that moved found no room in what is drawn.`);
    }
    if (!this.heap.named) said.push('Objects were not looked at: no block has a name, and there is one colouring.');
    else if (colour !== 'state' && coloured(this.heap, colour, rung) === 'state') said.push(`Coloured by state: which block would lie where after ${rung} is not known.`);
    return said.join(' ');
  }

  // The type or owner that is selected, with its pins.
  selected() {
    const type = this.state.get('type');
    const owner = this.state.get('owner');
    if (!type && !owner) this.selection = null;
    if (this.selection || !(type || owner) || !this.heap.named) return;
    const chosen = owner ? { owner } : { type };
    const rows = owner ? this.heap.look.snapshot?.pins?.by_owner?.filter((p) => p.head === owner) : null;
    this.selection = { pins: this.heap.pages(chosen), chosen: groupsOf(this.heap, chosen), name: owner || type, what: owner ? 'Owner' : 'Type', told: rows?.[0] ?? null };
  }

  resize() {
    const before = this.folding;
    this.width = Math.max(this.window.clientWidth, 50);
    const strip = this.options.strip ?? false;
    const most = Math.min(Math.max(innerHeight * 0.62, 260), 720);
    this.folding = new Folding(this.heap.heaps, { width: this.width, height: strip ? STRIP_HEIGHT : most, bytesPerRow: this.options.bytesPerRow, strip });
    this.folding.height = Math.max(Math.ceil(this.folding.fitHeight), 20);
    if (before) {
      Object.assign(this.folding, { zoom: before.zoom, x: before.x, y: before.y });
      this.folding.clamp();
    }
    this.ratio = Math.min(Math.max(devicePixelRatio || 1, 1), 2);
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(this.width * this.ratio);
      canvas.height = Math.round(this.folding.height * this.ratio);
      canvas.style.height = this.folding.height + 'px';
    }
    this.context = this.base.getContext('2d', { alpha: false });
    const pixels = this.context.createImageData(this.base.width, this.base.height);
    this.pixels = pixels;
    this.image = { words: new Uint32Array(pixels.data.buffer), width: pixels.width, height: pixels.height };
    this.schedule();
    if (this.toShow !== undefined) requestAnimationFrame(() => this.showPending());
  }

  schedule() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    if (this.asked) cancelAnimationFrame(this.asked);
    this.asked = 0;
    if (!this.paintScheme) return;
    const start = performance.now();
    const { folding, ratio, context } = this;
    const named = this.painter.paint(this.image, folding, this.paintScheme, this.lit, ratio, this.paintScheme.ground);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.putImageData(this.pixels, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (!this.options.strip) {
      this.drawFrames();
      this.drawNames(named);
    }
    this.window.classList.toggle('zoomed', this.zoomed);
    this.drawOver();
    this.lastFrame = performance.now() - start;
  }

  // The heaps' names, a thin frame around their rows, and marks where address space is left out.
  drawFrames() {
    const { folding, context, heap, colours } = this;
    const { regions } = heap;
    context.font = '600 ' + FONT;
    context.textBaseline = 'middle';
    const sums = this.heapSums ??= heap.sums().heaps;
    heap.heaps.forEach((h, i) => {
      const top = folding.top(i) - folding.y;
      const bottom = top + folding.rows[i] * folding.rowHeight;
      if (bottom < 0 || top - 24 > folding.height) return;
      context.fillStyle = colours.ink;
      const name = shown(h.name, 60);
      const y = Math.max(top, 22) - 11;
      context.fillText(name, 1, y);
      const wide = context.measureText(name).width;
      const gaps = h.upto - h.from;
      const said = `${size(sums[i].resident)} resident of ${size(h.pages * OS_PAGE)} in ${count(gaps)} ${gaps === 1 ? 'region' : 'regions'}`;
      context.save();
      context.font = FONT;
      const room = wide + 30 + context.measureText(said).width < folding.width;
      // Over rows that were scrolled below it the line stands on its own ground.
      if (top < 21.5) {
        context.fillStyle = colours.ground;
        context.fillRect(0, y - 11, wide + (room ? context.measureText(said).width + 20 : 8), 20);
        context.fillStyle = colours.ink;
        context.font = '600 ' + FONT;
        context.fillText(name, 1, y);
        context.font = FONT;
      }
      context.globalAlpha = 0.66;
      if (room) context.fillText(said, wide + 12, y);
      context.restore();
    });
    context.fillStyle = colours.ink;
    let marks = 0;
    for (let r = 1; r < regions.count && marks < 4000; r++) {
      if (regions.heap[r] !== regions.heap[r - 1] || regions.start[r] === regions.start[r - 1] + regions.size[r - 1]) continue;
      // Marks that would stand side by side tell nothing.
      if (Math.min(regions.size[r], regions.size[r - 1]) / folding.bytesPerPixel < 5) continue;
      const at = folding.place(regions.page[r], 0);
      if (at.x < -1 || at.x > folding.width + 1 || at.y + folding.rowHeight < 0 || at.y > folding.height) continue;
      marks++;
      context.fillRect(at.x - 0.75, at.y - 1, 1.5, folding.rowHeight);
    }
  }

  // Types' names in blocks that have room for them.
  drawNames(named) {
    const { context, folding, heap } = this;
    context.font = FONT;
    for (const { x, y, width, block, light } of named) {
      const name = heap.nameOf(block);
      if (!name) continue;
      const word = this.lightWord(light);
      context.fillStyle = word > 0.36 ? '#101214' : '#ffffff';
      // A name may be a megabyte long: what is cut to is kept per group.
      const text = (this.labels ??= new Map()).get(heap.blocks[block]) ?? shown(`${shown(name.type ?? '?', 80)}${name.role === 'object' ? '' : ' ' + shown(name.role.replaceAll('_', ' '), 20)}`, 100);
      this.labels.set(heap.blocks[block], text);
      const room = Math.floor((width - 8) / 6.4);
      if (room < 3) continue;
      context.save();
      context.beginPath();
      context.rect(x + 3, y, width - 5, folding.rowHeight);
      context.clip();
      context.fillText(shown(text, Math.max(4, room)), x + 5, y + folding.rowHeight / 2 - 0.5);
      context.restore();
    }
  }

  // How light the colour of a category is, from 0 to 1.
  lightWord(category) {
    const word = this.painter.palette[category] ?? 0;
    return (0.2126 * (word & 255) ** 2 + 0.7152 * (word >> 8 & 255) ** 2 + 0.0722 * (word >> 16 & 255) ** 2) / 65025;
  }

  // What is under the pointer, the cursor and the selected block.
  drawOver() {
    const context = this.over?.getContext('2d');
    if (!context || !this.colours) return;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.over.width, this.over.height);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    if (this.place) this.outline(context, this.place.block ?? this.place.run, this.colours.own, 2.5, true);
    if (this.hovered) this.outline(context, this.hovered.block ?? this.hovered.run, this.colours.ink, 1.5, false);
    if (this.cursor !== null && document.activeElement === this.base) {
      const told = this.told(this.cursor);
      if (told) this.outline(context, this.atBlocks ? told.block ?? told.run : { address: this.cursor, size: 1 }, this.colours.ink, 2, true);
    }
  }

  // A rectangle around bytes; around a cross where they are too narrow to be seen.
  outline(context, { address, size: bytes }, colour, line, cross) {
    const { folding, heap } = this;
    const page = heap.pageAt(address);
    if (page < 0) return;
    const offset = address - heap.addressOf(page);
    const at = folding.place(page, offset);
    let width = bytes / folding.bytesPerPixel;
    const rest = (folding.bytesPerRow - folding.x) / folding.bytesPerPixel - at.x;
    width = Math.min(width, rest);
    if (at.x + width < 0 || at.x > folding.width || at.y + folding.rowHeight < 0 || at.y > folding.height) return;
    const high = Math.max(folding.rowHeight - (folding.rowHeight > 14 ? 2 : folding.rowHeight >= 5 ? 1 : 0), 2);
    const draw = (x, y, w, h) => {
      context.lineWidth = line + 2;
      context.strokeStyle = this.colours.ground;
      context.strokeRect(x, y, w, h);
      context.lineWidth = line;
      context.strokeStyle = colour;
      context.strokeRect(x, y, w, h);
    };
    if (width >= 4) return draw(at.x, at.y, width, high);
    draw(at.x - 2, at.y - 1, Math.max(width, 1) + 4, high + 2);
    if (!cross) return;
    context.lineWidth = line;
    context.strokeStyle = colour;
    context.beginPath();
    context.arc(at.x + width / 2, at.y + high / 2, Math.max(high, 12), 0, 7);
    context.stroke();
  }

  told(address) {
    return describe(this.heap, address);
  }

  get atBlocks() {
    return this.folding.bytesPerPixel <= BLOCKS_FROM / 8;
  }

  addressAt(x, y) {
    const at = this.folding.byteAt(x, y);
    return at && at.page < this.heap.flags.length ? this.heap.addressOf(at.page) + at.offset : null;
  }

  hoverAt(x, y) {
    const start = performance.now();
    const address = this.addressAt(x, y);
    this.hovered = address === null ? null : this.told(address);
    this.tip.hidden = this.hovered === null;
    if (this.hovered) {
      this.tip.replaceChildren(...this.lines(this.hovered).map(([text, how]) => make('div', {}, make(how === 'strong' ? 'b' : 'span', { class: how === 'quiet' ? 'hm-quiet' : null, text }))));
      const width = this.tip.offsetWidth;
      const below = y + 22;
      const left = Math.min(Math.max(0, x + 14), Math.max(0, this.width - width));
      const over = x + 14 > this.width - width && y + 22 < this.folding.height;
      Object.assign(this.tip.style, { left: left + 'px', top: (over ? below + 4 : below) + 'px' });
    }
    this.drawOver();
    this.lastHover = performance.now() - start;
  }

  lines(told) {
    const lines = linesOf(told);
    const back = this.heap.accounts.view(this.rung()).back[told.page.number];
    if (back) lines.push([`${this.rung()} gave this page back`, 'quiet']);
    if (this.rung() === 'ideal' && !back) lines.push(['what is told is of now: where packed bytes would lie is not known', 'quiet']);
    return lines;
  }

  leave() {
    this.hovered = null;
    if (this.tip) this.tip.hidden = true;
    this.drawOver();
  }

  dragging(is) {
    this.window.classList.toggle('dragging', is);
    if (is) this.tip.hidden = true;
  }

  clickAt(x, y) {
    const address = this.addressAt(x, y);
    if (address !== null) this.take(address);
    this.base.focus({ preventScroll: true });
  }

  // Selects what stands at an address, without moving to it.
  take(address) {
    const told = this.told(address);
    if (!told) return;
    const at = (told.block?.address ?? address).toString(16);
    this.cursor = address;
    this.own = true;
    if (this.state.get('at') === at && this.state.get('look') === this.look) this.state.set({ at: '' });
    else this.state.set({ at, look: this.look });
    this.own = false;
  }

  clearPlace() {
    this.state.set({ at: '' });
    this.base.focus({ preventScroll: true });
  }

  clearAll() {
    this.cursor = null;
    this.termLit = null;
    this.state.set({ at: '', type: '', owner: '' });
    this.refresh();
    this.say('Cleared');
  }

  pickEntry(scheme, entry) {
    if (scheme.sort === 'state') {
      this.termLit = this.termLit === entry.key ? null : entry.key;
      return this.refresh();
    }
    const field = scheme.sort;
    return this.state.set({ [field]: this.state.get(field) === entry.key ? '' : entry.key, [field === 'type' ? 'owner' : 'type']: '' });
  }

  zoomBy(factor, x, y) {
    const { folding } = this;
    let [px, py] = [x ?? folding.width / 2, y ?? folding.height / 2];
    // Keys and buttons zoom to the cursor or the selected place, if it is in sight.
    const middle = this.cursor ?? this.place?.address;
    if (x === undefined && middle !== undefined && middle !== null) {
      const page = this.heap.pageAt(middle);
      const at = page < 0 ? null : folding.place(page, middle - this.heap.addressOf(page));
      if (at && at.x >= 0 && at.x <= folding.width && at.y > -folding.rowHeight && at.y < folding.height) [px, py] = [at.x, at.y + folding.rowHeight / 2];
    }
    folding.zoomAt(factor, px, py);
    this.hovered = null;
    if (x === undefined) this.say(folding.zoom <= 1 ? 'All is shown' : `${size(folding.bytesPerPixel * folding.width)} of each row are shown`);
    this.schedule();
  }

  panBy(dx, dy, cursor = false) {
    this.folding.x += dx * this.folding.bytesPerPixel;
    this.folding.y += dy;
    this.folding.clamp();
    this.hovered = null;
    if (cursor && this.cursor !== null) this.cursor = this.addressAt(this.folding.width / 2, this.folding.height / 2) ?? this.cursor;
    this.schedule();
  }

  fit() {
    Object.assign(this.folding, { zoom: 1, x: 0, y: 0 });
    this.schedule();
    this.say('All is shown');
  }

  hint() {
    if (this.hintTimer) return;
    this.hinted.classList.add('strong');
    this.hintTimer = setTimeout(() => { this.hintTimer = 0; this.hinted.classList.remove('strong'); }, 1500);
  }

  say(text) {
    if (this.live) this.live.textContent = text;
  }

  // The cursor: from block to block where these are drawn; a step of the picture where they are not.
  moveCursor(dx, dy) {
    const { folding, heap } = this;
    if (this.cursor === null) {
      this.cursor = this.place?.address ?? this.firstInSight();
    } else if (this.atBlocks && dx !== 0) {
      this.cursor = nextBlock(heap, this.cursor, dx) ?? this.cursor;
    } else {
      const page = heap.pageAt(this.cursor);
      const at = folding.place(page, this.cursor - heap.addressOf(page));
      const step = Math.max(folding.width / 60, 6);
      this.cursor = this.addressNear(at.x + dx * step, at.y + folding.rowHeight / 2 + dy * folding.rowHeight, dy) ?? this.cursor;
      const found = this.atBlocks ? heap.blockAt(this.cursor) : null;
      if (found) this.cursor = Math.max(found.address, this.cursor);
    }
    this.revealCursor();
    const told = this.told(this.cursor);
    if (told) this.say(this.atBlocks ? `${sayOf(told)}; ${told.name?.owner ? shown(told.name.owner, 160) + '; ' : ''}${placeOf(told)}` : `${shown(told.heap, 60)}, at ${told.address.toString(16)}: ${told.term.name}; ${told.page.live} live blocks on the OS page, ${told.page.free} bytes free`);
  }

  // What is at a place that may lie outside the window or, going up or down, between two heaps.
  addressNear(x, y, dy) {
    const { folding } = this;
    const byte = Math.min(Math.max(folding.x + x * folding.bytesPerPixel, 0), folding.bytesPerRow - 1);
    for (let i = 0; i < 3; i++) {
      const { heap, row, within } = folding.rowAt(y + dy * i * 15);
      const page = Math.floor((row * folding.bytesPerRow + byte) / OS_PAGE);
      if (within < 0 || within >= folding.rowHeight || page >= folding.heaps[heap].pages) continue;
      return this.heap.addressOf(folding.heaps[heap].page + page) + Math.floor((row * folding.bytesPerRow + byte) % OS_PAGE);
    }
    return null;
  }

  firstInSight() {
    for (const { heap, row } of this.folding.visible()) {
      const at = row * this.folding.bytesPerRow + this.folding.x;
      const page = Math.floor(at / OS_PAGE);
      if (page < this.folding.heaps[heap].pages) return this.heap.addressOf(this.folding.heaps[heap].page + page) + Math.floor(at % OS_PAGE);
    }
    return this.heap.regions.start[0];
  }

  revealCursor() {
    const page = this.heap.pageAt(this.cursor);
    this.folding.reveal(page, this.cursor - this.heap.addressOf(page), this.atBlocks ? this.heap.blockAt(this.cursor)?.size ?? 16 : 1);
    this.schedule();
  }

  takeCursor() {
    if (this.cursor === null) this.moveCursor(0, 0);
    this.take(this.cursor);
    const told = this.told(this.cursor);
    if (told) this.say(`Selected: ${sayOf(told)}`);
  }

  // To the beginning or the end of a row, or of all when it is there already.
  toEdge(way) {
    const { folding } = this;
    const x = way < 0 ? 0 : Infinity;
    if (folding.x === x || folding.zoom === 1) folding.y = x;
    folding.x = x;
    folding.clamp();
    this.cursor = null;
    this.schedule();
  }

  // Zooms to an address, so that its block is wide enough to be read.
  show(address) {
    const page = this.heap.pageAt(address);
    if (page < 0) return false;
    if (!this.folding || !this.root) return false;
    const block = this.heap.blockAt(address);
    const { folding } = this;
    if (!this.options.strip) {
      const bytes = Math.min(block?.size ?? 256, 65536);
      const wanted = Math.max(bytes / Math.min(160, folding.width / 3), 0.1);
      folding.zoom = Math.max(1, folding.bytesPerRow / folding.width / wanted);
      folding.clamp();
    }
    const start = block ? block.address : address;
    const first = this.heap.pageAt(start);
    const at = folding.place(first, start - this.heap.addressOf(first));
    if (!this.options.strip) {
      folding.x += (at.x - folding.width / 2 + Math.min((block?.size ?? 256) / folding.bytesPerPixel, folding.width / 2) / 2) * folding.bytesPerPixel;
      folding.y += at.y - folding.height / 2;
      folding.clamp();
    }
    this.cursor = address;
    this.drawNow();
    return true;
  }

  // Client pixels of an address, made visible first; null where it is not in the map.
  pixelOf(address) {
    const page = this.heap.pageAt(address);
    if (page < 0 || !this.folding) return null;
    const { folding } = this;
    const offset = address - this.heap.addressOf(page);
    folding.reveal(page, offset);
    this.drawNow();
    const at = folding.place(page, offset);
    this.base.scrollIntoView({ block: 'nearest', behavior: 'instant' });
    const box = this.base.getBoundingClientRect();
    const block = this.heap.blockAt(address);
    // Some pixels into its block, where it has them: a pointer's place is rounded.
    const within = Math.max(0.01, Math.min((block ? block.address + block.size - address : 1) / folding.bytesPerPixel / 2, 4));
    return { x: box.left + at.x + within, y: box.top + at.y + folding.rowHeight / 2 - 1 };
  }
}

const HINT = 'Drag to move, Ctrl and the wheel (or + and −) to zoom; once the map was clicked the wheel alone zooms. Arrows go from block to block, Enter selects, Escape clears.';
