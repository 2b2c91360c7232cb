// The heap map: a heap on a canvas, and what a pointer or a key does there. Owns the canvas, its tools and its legend;
// what is where is the folding's, what it looks like the painter's, what is said of it the card's.
import { OS_PAGE, RUNGS, RUNG_WORDS } from './terms.js';
import { Folding } from './folding.js';
import { Painter } from './paint.js';
import { groupsOf } from './pins.js';
import { lastNotAbove } from './bits.js';
import { lightOf, pageColours, schemeOf } from './schemes.js';
import { cardOf, found, hex, lineOf, pinnedLine } from './mapcard.js';
import { counted, percent, shown, size } from './text.js';
import { absent, alien, make } from './make.js';
import { Grid } from './grid.js';

const MAP_HEIGHT = 560;
const STRIP_HEIGHT = 36;
const ZOOM_STEP = 1.5;
const COLOURS = { state: 'by state', type: 'by type', owner: 'by owner' };
// A pointer that moved less has clicked.
const CLICK = 4;

export class MapView {
  // `element`: what it fills; `heap`: a Heap; `state`: a State; `options`: { strip, bytesPerRow, rows, look }: the scale that
  // it shares with other maps.
  constructor(element, heap, state, options = {}) {
    Object.assign(this, { element, heap, state, options, lastFrame: 0, lastHover: 0, hovered: null, selected: null, lit: null });
    this.index = options.look ?? heap.index;
    element.classList.remove('waiting');
    if (heap.problem !== null || heap.flags.length === 0) {
      element.replaceChildren(absent(heap.problem !== null ? `No map: ${heap.problem}.` : 'No map: no heap has any memory.'));
      return;
    }
    this.painter = new Painter(heap);
    this.build();
    this.listen();
    this.resize();
    state.subscribe((_, changed) => this.changed(changed));
  }

  build() {
    const label = `Map of the heap: ${this.heap.heaps.map((h) => h.name).join(', ')}. Arrows go from block to block, Enter selects, plus and minus zoom, Escape clears.`;
    this.canvas = make('canvas', { tabindex: '0', role: 'application', 'aria-label': shown(label, 400), 'aria-roledescription': 'map' });
    this.over = make('canvas', { class: 'over', 'aria-hidden': 'true' });
    this.line = make('p', { class: 'mapline', 'aria-live': 'polite' });
    this.card = make('div', { class: 'mapcard' });
    this.legend = make('div', { class: 'maplegend', role: 'group', 'aria-label': 'Colours' });
    this.told = make('p', { class: 'about maptold' });
    const frame = make('div', { class: 'mapframe' + (this.options.strip ? ' strip' : '') }, this.canvas, this.over);
    this.element.replaceChildren(...(this.options.strip ? [frame, this.line] : [this.tools(), this.told, frame, this.line, this.legend, this.card, this.twin()]));
  }

  tools() {
    const choice = (field, name, all) => make('div', { class: 'choice', role: 'group', 'aria-label': name }, make('span', { text: name }), Object.entries(all).map(([key, said]) => make('button', { type: 'button', 'data-choice': `${field}=${key}`, on: { click: () => this.state.set({ [field]: key }) } }, said)));
    const button = (name, said, act) => make('button', { type: 'button', title: name, 'aria-label': name, on: { click: act } }, said);
    const middle = (factor) => () => this.zoom(factor, this.folding.width / 2, this.folding.height / 2);
    const colours = this.heap.blocks ? COLOURS : { state: COLOURS.state };
    return make('div', { class: 'maptools noprint' }, choice('colour', 'Colours', colours), choice('rung', 'As left by', Object.fromEntries(RUNGS.map((r) => [r, this.rungName(r)]))),
      make('div', { class: 'choice' }, button('Closer', '+', middle(ZOOM_STEP)), button('Further off', '−', middle(1 / ZOOM_STEP)), button('All of it', 'all', () => this.all())));
  }

  // A rung and what it brings back, by the ladder.
  rungName(rung) {
    const back = this.heap.look.snapshot?.ladder?.[rung];
    return typeof back === 'number' ? `${rung} −${size(back)}` : rung;
  }

  // The same as a table.
  twin() {
    const { heap } = this;
    const rows = Array.from({ length: heap.regions.count }, (_, r) => r);
    const sums = new Map();
    const of = (r) => sums.get(r) ?? sums.set(r, this.sumOf(r)).get(r);
    const details = make('details', { class: 'maptwin' }, make('summary', { text: `The ${counted(rows.length, 'region')} of the map as a table` }));
    const bytes = { kind: 'bytes', sum: true };
    const fill = () => {
      if (!details.open || details.children.length > 1) return;
      details.append(new Grid({
        id: 'regions', title: 'Regions', rows, sort: '-pinned', columns: [
          { key: 'heap', label: 'heap', kind: 'text', of: (r) => heap.heaps[heap.regions.heap[r]].name },
          { key: 'start', label: 'address', kind: 'plain', of: (r) => heap.regions.start[r], show: (r) => make('code', { text: hex(heap.regions.start[r]) }) },
          { key: 'size', label: 'address space', ...bytes, of: (r) => heap.regions.size[r] },
          { key: 'resident', label: 'resident', word: 'resident', ...bytes, of: (r) => of(r).resident, bar: 'rss' },
          { key: 'live', label: 'live', word: 'live', ...bytes, of: (r) => of(r).live, bar: 'live' },
          { key: 'pinned', label: 'pinned free', ...bytes, of: (r) => of(r).pinned, bar: 'pinned_free' },
          { key: 'free', label: 'otherwise free', ...bytes, of: (r) => of(r).free },
        ],
      }, this.state).element);
    };
    details.addEventListener('toggle', fill);
    return details;
  }

  sumOf(r) {
    const { page } = this.heap.regions;
    const sums = this.heap.accounts.sumsOf('now', page[r], page[r + 1]);
    return { resident: sums.resident, live: sums.live + sums.slack, pinned: sums.pinned, free: sums.free + sums.hole + sums.top + sums.cached + sums.virgin };
  }

  listen() {
    const { canvas } = this;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const pointers = new Map();
    let moved = 0;
    canvas.addEventListener('pointerdown', (event) => {
      pointers.set(event.pointerId, at(event));
      moved = 0;
      try {
        canvas.setPointerCapture(event.pointerId);
      } catch { /* a pointer that went away */ }
    });
    canvas.addEventListener('pointermove', (event) => {
      const [x, y] = at(event);
      const before = pointers.get(event.pointerId);
      if (!before) return this.hover(x, y);
      pointers.set(event.pointerId, [x, y]);
      if (pointers.size === 2) {
        const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
        const gap = (p) => Math.max(8, Math.hypot(p[0] - other[0], p[1] - other[1]));
        moved = CLICK;
        return this.zoom(gap([x, y]) / gap(before), (x + other[0]) / 2, (y + other[1]) / 2);
      }
      moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
      if (moved >= CLICK) this.pan(before[0] - x, before[1] - y);
    });
    const up = (event) => {
      const clicked = pointers.delete(event.pointerId) && moved < CLICK && event.type === 'pointerup';
      if (clicked) this.select(...at(event));
    };
    canvas.addEventListener('pointerup', up);
    canvas.addEventListener('pointercancel', up);
    canvas.addEventListener('pointerleave', () => pointers.size === 0 && this.leave());
    // The wheel scrolls the page, unless the map is what the reader is at.
    canvas.addEventListener('wheel', (event) => {
      if (this.options.strip || !(event.ctrlKey || document.activeElement === canvas)) return;
      event.preventDefault();
      this.zoom(Math.exp(-Math.max(-240, Math.min(240, event.deltaY)) / 300), ...at(event));
    }, { passive: false });
    canvas.addEventListener('keydown', (event) => this.key(event));
    addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && !event.defaultPrevented && !document.querySelector('.popover:not([hidden])')) this.state.set({ at: '', owner: '', type: '' });
    });
    new ResizeObserver(() => this.resize()).observe(this.element);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.recolour());
    for (const event of ['beforeprint', 'afterprint']) addEventListener(event, () => this.resize());
    matchMedia('print').addEventListener('change', () => this.recolour());
  }

  changed(names) {
    if (names.includes('theme')) this.recolour();
    else if (['colour', 'rung', 'owner', 'type'].some((n) => names.includes(n))) this.restyle();
    if (names.includes('at') || names.includes('look')) this.follow(true);
  }

  // One of what may be chosen, whatever the hash says.
  one(field, all) {
    const value = this.state.get(field);
    return all.includes(value) ? value : all[0];
  }

  get rung() {
    return this.one('rung', RUNGS);
  }

  resize() {
    const width = Math.max(120, Math.floor(this.element.clientWidth));
    const ratio = Math.min(3, devicePixelRatio || 1);
    if (this.folding && this.folding.width === width && this.ratio === ratio) return this.recolour();
    const height = this.options.strip ? STRIP_HEIGHT : MAP_HEIGHT;
    const before = this.folding;
    this.ratio = ratio;
    this.folding = new Folding(this.heap.heaps, { width, height, bytesPerRow: this.options.bytesPerRow, rows: this.options.rows, strip: this.options.strip });
    this.folding.height = this.folding.fitHeight;
    if (before && before.bytesPerRow === this.folding.bytesPerRow) {
      Object.assign(this.folding, { zoom: before.zoom, x: before.x, y: before.y });
      this.folding.clamp();
    }
    for (const canvas of [this.canvas, this.over]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(this.folding.height * ratio);
      canvas.style.width = width + 'px';
      canvas.style.height = this.folding.height + 'px';
    }
    this.context = this.canvas.getContext('2d', { alpha: false });
    this.image = null;
    this.recolour();
    this.follow(false);
  }

  recolour() {
    this.colours = pageColours(this.element);
    this.restyle();
  }

  // The scheme and what is lit up, made again.
  restyle() {
    const { heap, state } = this;
    const sort = heap.blocks ? this.one('colour', Object.keys(COLOURS)) : 'state';
    const key = [sort, this.rung, this.colours.paper].join();
    if (this.schemeKey !== key) this.scheme = schemeOf(heap, sort, this.rung, this.colours);
    this.schemeKey = key;
    const owner = state.get('owner');
    const type = state.get('type');
    const selection = owner !== '' ? { owner } : type !== '' ? { type } : null;
    const chosen = JSON.stringify(selection);
    if (selection === null || !heap.blocks) this.pins = null;
    else if (this.chosen !== chosen) this.pins = heap.pages(selection);
    this.chosen = chosen;
    this.lit = this.pins && this.pins.blocks > 0 ? lightOf(heap, selection, this.pins, groupsOf(heap, selection), this.scheme, this.colours) : null;
    if (!this.options.strip) {
      this.tell(selection);
      this.list();
    }
    this.draw();
  }

  // What is shown, in words.
  tell(selection) {
    const { heap } = this;
    const sums = heap.sums(this.rung).all;
    const said = [`${size(sums.resident)} resident in ${counted(heap.heaps.length, 'heap')}`];
    if (this.rung !== 'now') said.push(`${RUNG_WORDS[this.rung]}: ${size(sums.returned)} came back`);
    if (!heap.named) said.push('objects were not looked at: blocks have no names');
    const parts = [said.join('; ') + '. '];
    if (selection && heap.blocks) parts.push(make('b', {}, alien(selection.owner ?? selection.type, '', 80)), this.pins.blocks > 0 ? `: ${pinnedLine(this.pins)}.` : ': not among what the map names.');
    this.told.replaceChildren(...parts);
    for (const button of this.element.querySelectorAll('[data-choice]')) {
      const [field, value] = button.dataset.choice.split('=');
      button.setAttribute('aria-pressed', String((field === 'rung' ? this.rung : heap.blocks ? this.one('colour', Object.keys(COLOURS)) : 'state') === value));
    }
  }

  list() {
    const { entries } = this.scheme;
    const resident = this.heap.sums(this.rung).all.resident;
    const items = entries.filter((e) => e.bytes === null || e.bytes > 0).map((e) => {
      const swatch = make('span', { class: 'swatch p' + e.pattern, 'aria-hidden': 'true' });
      swatch.style.backgroundColor = e.colour;
      const inRss = e.bytes !== null && (e.sort || !['absent', 'swapped', 'other'].includes(e.key));
      const said = [swatch, e.sort && e.key !== null ? make('bdi', { text: shown(e.name, 48) }) : e.name, e.bytes === null ? null : make('span', { class: 'soft', text: ` ${size(e.bytes)}${inRss ? ` ${percent(e.bytes, resident)}` : ''}` })];
      if (!e.sort || e.key === null) return make('span', { class: 'entry', title: e.says ?? null }, said);
      const pressed = this.state.get(e.sort) === e.key;
      return make('button', { type: 'button', class: 'entry', 'aria-pressed': String(pressed), on: { click: () => this.state.set({ type: '', owner: '', ...(pressed ? {} : { [e.sort]: e.key }) }) } }, said);
    });
    this.legend.replaceChildren(...items);
  }

  // Draws at the next frame.
  draw() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      this.paint();
    });
  }

  paint() {
    const start = performance.now();
    const { canvas, context, folding, ratio } = this;
    this.image ??= context.createImageData(canvas.width, canvas.height);
    const words = new Uint32Array(this.image.data.buffer);
    this.named = this.painter.paint({ words, width: canvas.width, height: canvas.height }, folding, this.scheme, this.lit, ratio, this.scheme.ground);
    context.putImageData(this.image, 0, 0);
    context.save();
    context.scale(ratio, ratio);
    this.write(context);
    context.restore();
    this.outline();
    this.lastFrame = performance.now() - start;
    this.frames = (this.frames ?? 0) + 1;
  }

  // Names of heaps, and of blocks that have room for one.
  write(context) {
    const { folding, heap, colours } = this;
    context.textBaseline = 'middle';
    if (!this.options.strip) {
      context.font = '600 12px system-ui, sans-serif';
      context.fillStyle = colours.soft;
      folding.heaps.forEach((h, i) => {
        const y = folding.top(i) - folding.y - folding.nameLine / 2;
        if (y < -10 || y > folding.height + 10) return;
        context.fillText(shown(`${h.name}   ${size(h.pages * OS_PAGE)} of address space`, 90), 0, y);
      });
    }
    context.font = '11px system-ui, sans-serif';
    for (const { x, y, width, block } of this.named) {
      const name = heap.nameOf(block);
      if (!name?.type) continue;
      const text = shown(name.type, 40);
      context.save();
      context.beginPath();
      context.rect(x + 2, y, width - 4, folding.rowHeight);
      context.clip();
      context.lineWidth = 3;
      context.strokeStyle = colours.paper;
      context.fillStyle = colours.ink;
      context.strokeText(text, x + 4, y + folding.rowHeight / 2);
      context.fillText(text, x + 4, y + folding.rowHeight / 2);
      context.restore();
    }
  }

  // Frames around the block under the pointer and the selected one, above the picture.
  outline() {
    const context = this.over.getContext('2d');
    context.clearRect(0, 0, this.over.width, this.over.height);
    context.save();
    context.scale(this.ratio, this.ratio);
    if (this.hovered) this.frame(context, this.hovered, this.colours.ink, 1.5);
    if (this.selected) this.frame(context, this.selected, this.colours.accent, 3);
    context.restore();
  }

  frame(context, at, colour, wide) {
    const { folding, heap } = this;
    const from = at.block ? at.block.address : at.address;
    const bytes = at.block ? at.block.size : 1;
    const page = heap.pageAt(from);
    if (page < 0) return;
    const gap = folding.strip || folding.rowHeight < 5 ? 0 : 1;
    let left = bytes;
    let offset = (from - heap.addressOf(page));
    let here = folding.place(page, offset);
    // A block may go on in the rows below; three show where.
    for (let n = 0; left > 0 && n < 3; n++) {
      const room = (folding.width - here.x) * folding.bytesPerPixel + Math.max(0, folding.bytesPerRow - folding.x - folding.width * folding.bytesPerPixel);
      const part = Math.min(left, Math.max(1, room));
      const width = Math.max(4, part / folding.bytesPerPixel);
      context.lineWidth = wide + 2;
      context.strokeStyle = this.colours.paper;
      context.strokeRect(here.x - 1, here.y - 1, width + 2, Math.max(4, folding.rowHeight - gap + 2));
      context.lineWidth = wide;
      context.strokeStyle = colour;
      context.strokeRect(here.x - 1, here.y - 1, width + 2, Math.max(4, folding.rowHeight - gap + 2));
      left -= part;
      offset += part;
      if (left > 0) here = { ...here, x: -folding.x / folding.bytesPerPixel, y: here.y + folding.rowHeight };
    }
  }

  hover(x, y) {
    const start = performance.now();
    const byte = this.folding.byteAt(x, y);
    this.hovered = byte && found(this.heap, this.rung, byte.page, byte.offset);
    this.line.textContent = lineOf(this.heap, this.hovered) + this.ownerOf(this.hovered);
    this.outline();
    this.lastHover = performance.now() - start;
  }

  ownerOf(at) {
    const owner = at?.name?.owner ?? at?.name?.head;
    return owner ? ` · owned by ${shown(owner, 120)}` : '';
  }

  leave() {
    this.hovered = null;
    this.line.textContent = '';
    this.outline();
  }

  // A click: the block there, or what else is there; outside, nothing.
  select(x, y) {
    const byte = this.folding.byteAt(x, y);
    const at = byte && found(this.heap, this.rung, byte.page, byte.offset);
    this.state.set(at ? { at: hex(at.block ? at.block.address : at.address), look: this.index } : { at: '' });
  }

  // Shows what the state has selected.
  follow(reveal) {
    const text = this.state.get('at').replace(/^0x/, '');
    const address = /^[0-9a-f]{1,14}$/i.test(text) && Number(this.state.get('look')) === this.index ? parseInt(text, 16) : -1;
    const page = address >= 0 ? this.heap.pageAt(address) : -1;
    this.selected = page >= 0 ? found(this.heap, this.rung, page, address - this.heap.addressOf(page)) : null;
    if (this.selected && reveal) this.reveal(this.selected);
    if (this.card) this.card.replaceChildren(...(this.selected ? [cardOf(this.heap, this.selected, (choice) => this.state.set(choice))] : []));
    this.draw();
  }

  reveal(at) {
    const from = at.block?.address ?? at.address;
    const page = this.heap.pageAt(from);
    this.folding.reveal(page, from - this.heap.addressOf(page), at.block?.size ?? 1);
    this.draw();
  }

  zoom(factor, x, y) {
    if (this.options.strip) return;
    this.folding.zoomAt(factor, x, y);
    this.draw();
  }

  pan(dx, dy) {
    this.folding.x += dx * this.folding.bytesPerPixel;
    this.folding.y += dy;
    this.folding.clamp();
    this.draw();
  }

  all() {
    Object.assign(this.folding, { zoom: 1, x: 0, y: 0 });
    this.folding.clamp();
    this.draw();
  }

  // Zooms to an address, near enough to see its block.
  show(address) {
    const page = this.heap.pageAt(address);
    if (page < 0) return;
    const block = this.heap.blockAt(address);
    const wide = Math.max(block?.size ?? 64, 16);
    const want = this.folding.bytesPerRow / this.folding.width * Math.min(60, this.folding.width / 2) / wide;
    this.folding.zoom = Math.min(Math.max(this.folding.zoom, want), this.folding.mostZoom);
    this.folding.clamp();
    const from = block?.address ?? address;
    const first = this.heap.pageAt(from);
    this.folding.reveal(first, from - this.heap.addressOf(first), Math.min(wide, 60 * this.folding.bytesPerPixel));
    this.draw();
  }

  // Where an address is on the canvas, in CSS pixels.
  pixelOf(address) {
    const page = this.heap.pageAt(address);
    if (page < 0) return null;
    const { x, y } = this.folding.place(page, address - this.heap.addressOf(page) + 0.5);
    return { x, y: y + Math.max(1, this.folding.rowHeight - 2) / 2 };
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { folding } = this;
    const cursor = () => {
      const at = this.hovered ?? this.selected;
      const page = at ? this.heap.pageAt(at.address) : -1;
      const place = page >= 0 ? folding.place(page, at.address - this.heap.addressOf(page)) : null;
      return place && place.x >= 0 && place.x <= folding.width ? [place.x, place.y] : [folding.width / 2, folding.height / 2];
    };
    const act = {
      '+': () => this.zoom(ZOOM_STEP, ...cursor()), '=': () => this.zoom(ZOOM_STEP, ...cursor()), '-': () => this.zoom(1 / ZOOM_STEP, ...cursor()), 0: () => this.all(),
      ArrowRight: () => this.step(1), ArrowLeft: () => this.step(-1), ArrowDown: () => this.step(0, 1), ArrowUp: () => this.step(0, -1),
      PageDown: () => this.page(1), PageUp: () => this.page(-1), Home: () => this.go(0), End: () => this.go(this.heap.blockCount - 1),
      Enter: () => this.take(), ' ': () => this.take(),
    }[event.key];
    if (event.shiftKey && event.key.startsWith('Arrow')) {
      const [dx, dy] = { ArrowRight: [60, 0], ArrowLeft: [-60, 0], ArrowDown: [0, 40], ArrowUp: [0, -40] }[event.key];
      this.pan(dx, dy);
    } else if (act) {
      act();
    } else {
      return;
    }
    event.preventDefault();
  }

  // A window further; where all rows are in sight, along them.
  page(sign) {
    const { folding } = this;
    if (folding.contentHeight() > folding.height) this.pan(0, sign * folding.height * 0.8);
    else this.pan(sign * folding.width * 0.8, 0);
  }

  // The cursor to the next block, or to what is a row further.
  step(blocks, rows = 0) {
    const { heap, folding } = this;
    const at = this.hovered ?? this.selected;
    if (!at) {
      const first = folding.byteAt(folding.width / 2, folding.height / 2) ?? { page: 0, offset: 0 };
      return this.point(first.page, first.offset);
    }
    if (rows !== 0) {
      const place = folding.place(at.page, at.offset);
      const byte = folding.byteAt(Math.min(Math.max(place.x, 0), folding.width - 1), place.y + (rows + 0.4) * folding.rowHeight);
      if (byte) return this.point(byte.page, byte.offset);
      const further = at.page + rows * Math.round(folding.bytesPerRow / OS_PAGE);
      return further >= 0 && further < heap.flags.length ? this.point(further, at.offset) : undefined;
    }
    if (heap.blockCount === 0) return this.point(Math.min(Math.max(at.page + blocks, 0), heap.flags.length - 1), 0);
    const number = at.block ? at.block.number + blocks : this.near(at, blocks);
    if (number >= 0 && number < heap.blockCount) this.go(number);
  }

  // The first live block behind an address that is in none, or the last before it; -1: none.
  near(at, sign) {
    const { heap } = this;
    const before = lastNotAbove(heap.blockCount, (n) => heap.block(n).address, at.address);
    const number = sign > 0 ? before + 1 : before;
    return number < heap.blockCount ? number : -1;
  }

  go(number) {
    const block = this.heap.block(number);
    if (!block) return;
    const page = this.heap.pageAt(block.address);
    this.point(page, block.address - this.heap.addressOf(page));
  }

  point(page, offset) {
    this.hovered = found(this.heap, this.rung, page, Math.floor(offset));
    if (!this.hovered) return;
    this.line.textContent = lineOf(this.heap, this.hovered) + this.ownerOf(this.hovered);
    this.reveal(this.hovered);
  }

  take() {
    const at = this.hovered ?? this.selected;
    if (at) this.state.set({ at: hex(at.block ? at.block.address : at.address), look: this.index });
    else this.step(1);
  }
}
