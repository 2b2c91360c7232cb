// How the address space of a heap is folded into rows, and which of it a window shows. Free of the page.
//
// Each walked heap has rows of `bytesPerRow` bytes below a line for its name, one heap below the other; stretches between
// its regions take no room. Zooming makes rows higher up to a limit and stretches them from there on, so that a row
// stays a row. Lengths are CSS pixels; `x` is the first byte of a row that is seen, `y` the pixels above the window.
import { OS_PAGE } from './terms.js';

export const NAME_LINE = 22;
const BETWEEN = 8;
const LEAST_ROW = 7;
const MOST_ROW = 20;
const HIGH_ROW = 30;
const LEAST_BYTES = 2 ** 16;
// The closest look: pixels per byte.
const CLOSEST = 12;

// Bytes of a row so that heaps with so many pages each fit into a height.
export function rowBytes(heaps, height) {
  const room = height - heaps.length * (NAME_LINE + BETWEEN);
  for (let bytes = LEAST_BYTES; bytes < 2 ** 50; bytes *= 2) {
    const rows = heaps.reduce((n, h) => n + Math.ceil(h.pages * OS_PAGE / bytes), 0);
    if (rows * LEAST_ROW <= Math.max(room, 2 * LEAST_ROW * heaps.length)) return bytes;
  }
  return 2 ** 50;
}

export class Folding {
  // `heaps`: each { page, pages }; `strip`: all of them in one row.
  constructor(heaps, { width, height, bytesPerRow, rows = 0, strip = false }) {
    this.strip = strip;
    this.width = width;
    this.height = height;
    const pages = heaps.reduce((n, h) => n + h.pages, 0);
    this.heaps = strip ? [{ page: 0, pages }] : heaps;
    // A strip has one row, so that a scale that is too small for it is not its scale.
    this.bytesPerRow = strip ? Math.max(bytesPerRow ?? 0, pages * OS_PAGE, OS_PAGE) : bytesPerRow || rowBytes(heaps, height);
    this.nameLine = strip ? 0 : NAME_LINE;
    this.rows = this.heaps.map((h) => Math.max(1, Math.ceil(h.pages * OS_PAGE / this.bytesPerRow)));
    this.rowsBefore = [0];
    for (const n of this.rows) this.rowsBefore.push(this.rowsBefore.at(-1) + n);
    // Where another map on the same scale has more rows, these are no higher than its.
    const all = Math.max(this.rowsBefore.at(-1), rows);
    const room = height - this.heaps.length * (this.nameLine + BETWEEN) + BETWEEN;
    // Many heaps do not fit: then what is zoomed out as far as it goes is still higher than the window.
    const fair = room / Math.max(all, 1);
    this.fitRow = strip ? height : Math.min(MOST_ROW, fair < LEAST_ROW / 2 ? LEAST_ROW : fair);
    this.fitHeight = Math.min(height, this.contentHeight(this.fitRow));
    this.zoom = 1;
    this.x = 0;
    this.y = 0;
  }

  get bytesPerPixel() {
    return this.bytesPerRow / this.width / this.zoom;
  }

  get rowHeight() {
    return this.rowHeightAt(this.zoom);
  }

  rowHeightAt(zoom) {
    return Math.max(this.fitRow, Math.min(this.fitRow * zoom, HIGH_ROW));
  }

  get mostZoom() {
    return Math.max(1, this.bytesPerRow / this.width * CLOSEST);
  }

  contentHeight(rowHeight = this.rowHeight) {
    if (this.strip) return this.height;
    return this.rowsBefore.at(-1) * rowHeight + this.heaps.length * (this.nameLine + BETWEEN) - BETWEEN;
  }

  // Top of a heap's rows, from the top of all.
  top(h, rowHeight = this.rowHeight) {
    return this.rowsBefore[h] * rowHeight + h * (this.nameLine + BETWEEN) + this.nameLine;
  }

  // Keeps the window on what there is.
  clamp() {
    this.zoom = Math.min(Math.max(this.zoom, 1), this.mostZoom);
    this.x = Math.min(Math.max(this.x, 0), this.bytesPerRow - this.width * this.bytesPerPixel);
    this.y = Math.min(Math.max(this.y, 0), Math.max(0, this.contentHeight() - this.height));
  }

  // Zooms so that what is at a pixel stays there.
  zoomAt(factor, px, py) {
    const byte = this.x + px * this.bytesPerPixel;
    const at = this.rowAt(py);
    const before = this.rowHeight;
    this.zoom *= factor;
    this.zoom = Math.min(Math.max(this.zoom, 1), this.mostZoom);
    this.x = byte - px * this.bytesPerPixel;
    this.y = this.top(at.heap) + at.row * this.rowHeight + at.within * this.rowHeight / before - py;
    this.clamp();
  }

  // The heap and row at a height of the window; `within`: pixels into the row, less than none above the first.
  rowAt(py) {
    const y = py + this.y;
    let h = this.heaps.length - 1;
    while (h > 0 && y < this.top(h) - this.nameLine - BETWEEN / 2) h--;
    const inside = y - this.top(h);
    const row = Math.min(Math.max(Math.floor(inside / this.rowHeight), 0), this.rows[h] - 1);
    return { heap: h, row, within: inside - row * this.rowHeight };
  }

  // The byte at a pixel, as { page, offset }; null where there is none.
  byteAt(px, py) {
    const { heap, row, within } = this.rowAt(py);
    if (within < 0 || within >= this.rowHeight || px < 0 || px >= this.width) return null;
    const at = row * this.bytesPerRow + this.x + px * this.bytesPerPixel;
    const page = Math.floor(at / OS_PAGE);
    if (page >= this.heaps[heap].pages) return null;
    return { page: this.heaps[heap].page + page, offset: Math.floor(at - page * OS_PAGE) };
  }

  // Where a byte is drawn: its left edge and the top of its row, in the window.
  place(page, offset) {
    let h = this.heaps.length - 1;
    while (h > 0 && page < this.heaps[h].page) h--;
    const at = (page - this.heaps[h].page) * OS_PAGE + offset;
    const row = Math.floor(at / this.bytesPerRow);
    return { x: (at - row * this.bytesPerRow - this.x) / this.bytesPerPixel, y: this.top(h) + row * this.rowHeight - this.y, heap: h, row };
  }

  // Brings a byte into the window, to its middle where it was outside.
  reveal(page, offset, bytes = 1) {
    const at = this.place(page, offset);
    const width = Math.min(bytes / this.bytesPerPixel, this.width);
    if (at.x < 0 || at.x + width > this.width) this.x += (at.x + width / 2 - this.width / 2) * this.bytesPerPixel;
    if (at.y < 0 || at.y + this.rowHeight > this.height) this.y += at.y - this.height / 2;
    this.clamp();
  }

  // The rows in sight: { heap, row, y }.
  *visible() {
    const { rowHeight } = this;
    for (let h = 0; h < this.heaps.length; h++) {
      const top = this.top(h) - this.y;
      const first = Math.max(0, Math.floor(-top / rowHeight));
      for (let row = first; row < this.rows[h]; row++) {
        const y = top + row * rowHeight;
        if (y >= this.height) break;
        yield { heap: h, row, y };
      }
    }
  }
}
