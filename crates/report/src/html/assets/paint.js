// A window of a heap as pixels: rows of stacked columns, drawn into the words of an image. Free of the page.
//
// A column of a row shows what its bytes are, category upon category, each as high as its share of them. Far off
// the shares are sums of whole OS pages; near by they are of the runs within pages, so that a block that is wider than
// a pixel fills its columns. Lengths here are pixels of the device.
import { OS_PAGE } from './terms.js';
import { Runs } from './runs.js';

// Single blocks are drawn from so many bytes per pixel on.
export const BLOCKS_FROM = 256;

// Patterns, so that a category is told without its colour: none, rising lines, dots, falling lines, sparse dots.
export const PATTERN = { none: 0, rising: 1, dots: 2, falling: 3, sparse: 4 };

export class Painter {
  constructor(heap) {
    this.heap = heap;
    this.runs = new Runs();
  }

  // `scheme`: { width, bytes, colours, marks, patterns, ofRun, back, view }: categories and their bytes per page, the last
  // one for pages given back; `lit`: null, or { own, chosen, colours, faded } of a selection. `image`: { words, width, height }.
  // Gives the blocks whose names have room: { x, y, width, block }.
  paint(image, folding, scheme, lit, ratio, ground) {
    image.words.fill(ground);
    const columns = image.width;
    this.scheme = scheme;
    this.lit = lit;
    this.image = image;
    this.ratio = ratio;
    this.named = [];
    // Categories of the scheme, then those of the selection: own, other live, free beside them.
    this.total = scheme.width + 1 + 3;
    this.palette = new Uint32Array(this.total);
    this.marked = new Uint32Array(this.total);
    this.palette.set(lit ? lit.faded : scheme.colours);
    this.marked.set(lit ? lit.faded : scheme.marks);
    if (lit) {
      this.palette.set(lit.colours, scheme.width + 1);
      this.marked.set(lit.marks, scheme.width + 1);
    }
    this.pattern = Uint8Array.from([...scheme.patterns, 0, 0, lit ? PATTERN.rising : 0]);
    if (this.sums?.length !== columns * this.total) this.sums = new Float64Array(columns * this.total);
    const near = folding.bytesPerPixel <= BLOCKS_FROM;
    const perPixel = folding.bytesPerPixel / ratio;
    for (const { heap, row, y } of folding.visible()) {
      const of = folding.heaps[heap];
      const from = row * folding.bytesPerRow + folding.x;
      const upto = Math.min(from + columns * perPixel, (row + 1) * folding.bytesPerRow, of.pages * OS_PAGE);
      if (from >= upto) continue;
      const top = Math.round(y * ratio);
      const gap = folding.strip || folding.rowHeight < 5 ? 0 : Math.max(1, Math.round(ratio * (folding.rowHeight > 14 ? 2 : 1)));
      const high = Math.max(1, Math.round((y + folding.rowHeight) * ratio) - top - gap);
      this.edges = [];
      if (near) this.near(of.page, from, upto, perPixel, y, folding);
      else this.far(of.page, from, upto, perPixel);
      this.stack(top, high, Math.ceil((upto - from) / perPixel - 1e-6), perPixel);
      for (const x of this.edges) this.line(x, top, high);
    }
    return this.named;
  }

  // Sums of whole pages, column by column.
  far(firstPage, from, upto, perPixel) {
    const { total, sums, lit } = this;
    const { width, bytes, back } = this.scheme;
    const last = Math.ceil(upto / OS_PAGE) - 1;
    let before = -1;
    let beforeLast = -1;
    for (let x = 0, a = from; a < upto; x++, a = from + x * perPixel) {
      const at = x * total;
      const b = a + perPixel;
      const first = Math.floor(a / OS_PAGE);
      const end = Math.min(Math.max(first, Math.ceil(b / OS_PAGE) - 1), last);
      if (first === before && end === beforeLast) {
        sums.copyWithin(at, at - total, at);
        continue;
      }
      before = first;
      beforeLast = end;
      sums.fill(0, at, at + total);
      let touched = 0;
      for (let p = first; lit && p <= end; p++) touched += lit.own[firstPage + p] > 0 && !back[firstPage + p] ? 1 : 0;
      for (let p = first; p <= end; p++) {
        const page = firstPage + p;
        if (touched > 0) {
          const own = back[page] ? 0 : lit.own[page];
          if (own === 0) continue;
          sums[at + width + 1] += own;
          sums[at + width + 2] += Math.max(0, lit.live(page) - own);
          sums[at + width + 3] += OS_PAGE - Math.max(own, lit.live(page));
        } else if (back[page]) {
          sums[at + width] += OS_PAGE;
        } else {
          for (let c = 0, w = page * width; c < width; c++, w++) sums[at + c] += bytes[w];
        }
      }
    }
  }

  // Runs of the pages in sight, each added to the columns that it reaches.
  near(firstPage, from, upto, perPixel, y, folding) {
    const { total, sums, runs, heap, lit, named, edges } = this;
    const { width, back, view, ofRun, absent } = this.scheme;
    const columns = Math.ceil((upto - from) / perPixel);
    sums.fill(0, 0, Math.min(sums.length, columns * total));
    // Widths from which outlines and names are drawn.
    const outlined = 5 * this.ratio * perPixel;
    const written = 46 * this.ratio * perPixel;
    const add = (a, b, c) => {
      const start = (Math.max(a, from) - from) / perPixel;
      const end = (Math.min(b, upto) - from) / perPixel;
      if (end <= start) return;
      let x = Math.floor(start);
      const last = Math.min(Math.ceil(end), columns);
      for (; x < last; x++) sums[x * total + c] += Math.min(end, x + 1) - Math.max(start, x);
    };
    let open = null;
    const close = () => {
      if (open && open.b - open.a >= written && folding.rowHeight >= 15) {
        const x = Math.max(open.a, from);
        const wide = Math.min(open.b, upto) - x;
        if (wide >= written && named.length < 600) named.push({ x: (x - from) / perPixel / this.ratio, y, width: wide / perPixel / this.ratio, block: open.block, light: open.light });
      }
      open = null;
    };
    for (let p = Math.floor(from / OS_PAGE); p * OS_PAGE < upto; p++) {
      const page = firstPage + p;
      const base = p * OS_PAGE;
      if (back[page] || !(view.flags[page] & 1)) {
        close();
        add(base, base + OS_PAGE, back[page] ? width : absent(page));
        continue;
      }
      runs.of(heap, view, page);
      const own = lit ? lit.own[page] : 0;
      for (let i = 0; i < runs.count; i++) {
        const block = runs.block[i];
        const a = base + runs.start[i];
        const b = base + runs.end(i);
        let c = ofRun(runs.term[i], block);
        if (own > 0) c = width + (block < 0 ? runs.term[i] <= 1 ? 2 : 3 : lit.chosen[heap.blocks[block]] ? 1 : 2);
        add(a, b, c);
        if (open && open.block === block && block >= 0) {
          open.b = b;
        } else {
          close();
          if (block >= 0) {
            open = { block, a, b, light: c };
            // A block that goes on from the page before began there.
            const begins = runs.start[i] > 0 || p * OS_PAGE <= from || !this.continues(page, block);
            if (begins && b - a >= outlined && a >= from && a < upto) edges.push(Math.floor((a - from) / perPixel));
          } else if (runs.term[i] !== 2 && b - a >= outlined && a >= from && a < upto) {
            edges.push(Math.floor((a - from) / perPixel));
          }
        }
      }
    }
    close();
  }

  // Whether a block that reaches the start of a page began before it.
  continues(page, block) {
    const place = this.heap.block(block);
    return place !== null && place.address < this.heap.addressOf(page);
  }

  // Sums to stacked columns: the first category lowest.
  stack(top, high, columns, perPixel) {
    const { total, sums, palette, marked, pattern } = this;
    const { words, width, height } = this.image;
    const last = Math.min(top + high, height);
    const step = Math.max(2, Math.round(3 * this.ratio));
    const fine = high >= 6 * this.ratio;
    for (let x = 0; x < Math.min(columns, width); x++) {
      let sum = 0;
      for (let c = 0; c < total; c++) sum += sums[x * total + c];
      if (sum === 0) continue;
      // Far off, small shares would all be rounded away: they get a pixel in as many columns as they are of the whole.
      const shift = perPixel >= OS_PAGE / 2 ? x * 0.618034 % 1 - 0.5 : 0;
      let part = 0;
      let y = top + high;
      for (let c = 0; c < total; c++) {
        const bytes = sums[x * total + c];
        if (bytes === 0) continue;
        part += bytes;
        let upto = part >= sum - 1e-6 ? top : top + high - Math.round(part / sum * high + shift);
        if (upto < top) upto = top;
        const colour = palette[c];
        const kind = fine ? pattern[c] : 0;
        for (let row = y - 1; row >= upto; row--) {
          if (row < 0 || row >= last) continue;
          let mark = false;
          if (kind === 1) mark = (x + row) % (2 * step) === 0;
          else if (kind === 2) mark = x % step === 0 && row % step === 0;
          else if (kind === 3) mark = (x - row + 65536 * step) % (2 * step) === 0;
          else if (kind === 4) mark = x % (2 * step) === 0 && row % (2 * step) === 0;
          words[row * width + x] = mark ? marked[c] : colour;
        }
        if (upto < y) y = upto;
      }
    }
  }

  // The left edge of a block.
  line(x, top, high) {
    const { words, width, height } = this.image;
    for (let wide = 0; wide < Math.max(1, Math.round(this.ratio)) && x + wide < width; wide++) {
      for (let row = Math.max(0, top); row < Math.min(top + high, height); row++) words[row * width + x + wide] = this.scheme.ground;
    }
  }
}

// A colour of CSS as a word of an image: `#rrggbb`.
export function wordOf(colour) {
  const n = parseInt(colour.slice(1), 16);
  return (0xff000000 | (n & 255) << 16 | n & 0xff00 | n >> 16 & 255) >>> 0;
}

// A colour between two, `share` of the way from the first to the second.
export function mixed(a, b, share) {
  const channel = (shift) => Math.round((a >>> shift & 255) + ((b >>> shift & 255) - (a >>> shift & 255)) * share) << shift;
  return (0xff000000 | channel(0) | channel(8) | channel(16)) >>> 0;
}
