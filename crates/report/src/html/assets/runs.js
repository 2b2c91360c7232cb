// What a single OS page consists of, byte by byte: what is drawn where blocks are wide enough to be seen.
import { TERM, TERMS, TILE_KIND, TILE_HEADER, TILE_TERM, OS_PAGE, POOL_HEADER, PAGE } from './terms.js';
import { countSet, isSet } from './bits.js';

// What a page consists of, from its first byte to its last: run `i` begins at `start[i]`, is `term[i]`, and is of the
// block `block[i]`; -1 where it is none, -2 where a rung would move one to.
export class Runs {
  constructor() {
    this.start = new Uint16Array(1100);
    this.term = new Uint8Array(1100);
    this.block = new Int32Array(1100);
    this.count = 0;
  }

  end(i) {
    return i + 1 < this.count ? this.start[i + 1] : OS_PAGE;
  }

  put(start, term, block) {
    const i = this.count - 1;
    if (start >= OS_PAGE || i >= 1098) return;
    // Neighbours that are the same free stretch are one run.
    if (i >= 0 && block === -1 && this.block[i] === -1 && this.term[i] === term) return;
    if (i >= 0 && this.start[i] === start) this.count--;
    this.start[this.count] = start;
    this.term[this.count] = term;
    this.block[this.count++] = block;
  }

  of(heap, view, page) {
    this.count = 0;
    const unit = heap.unit[page];
    if (view.flat?.[page]) this.flat(view.terms, page);
    else if (unit === -1) this.put(0, TERM.metadata, -1);
    else if (unit === -2) this.put(0, TERM.virgin, -1);
    else if (heap.isPool(page)) this.pool(heap, view.pools, page, unit);
    else this.tiles(heap, view.flags, page, unit);
    return this;
  }

  // A page of which no more is known than its terms.
  flat(terms, page) {
    let start = 0;
    for (let t = 0; t < TERMS.length; t++) {
      const bytes = terms[page * TERMS.length + t];
      if (bytes > 0) this.put(start, t, -1);
      start += bytes;
    }
  }

  pool(heap, pools, page, pool) {
    const base = (page - pools.page[pool]) * OS_PAGE;
    if (base === 0) this.put(0, TERM.metadata, -1);
    const body = base === 0 ? POOL_HEADER : 0;
    if (pools.state[pool] !== 0) {
      if (pools.state[pool] !== 1) this.count = 0;
      return this.put(pools.state[pool] === 1 ? body : 0, pools.state[pool] === 1 ? TERM.free : TERM.unread, -1);
    }
    const size = 16 * (pools.class[pool] + 1);
    const blocks = Math.floor((heap.poolSize - POOL_HEADER) / size);
    const first = Math.max(0, Math.floor((base - POOL_HEADER) / size));
    const last = Math.min(pools.carved[pool] - 1, Math.floor((base + OS_PAGE - 1 - POOL_HEADER) / size));
    const at = pools.at[pool];
    const original = heap.pools;
    // A pool that a rung filled has blocks whose numbers are not known.
    const moved = pools !== original;
    let number = original.block[pool] + (original.state[pool] === 0 ? countSet(original.live, original.at[pool], 0, Math.min(first, original.carved[pool])) : 0);
    const free = base > 0 && countSet(pools.live, at, first, last + 1) === 0 ? TERM.hole : TERM.pinned;
    for (let slot = first; slot <= last; slot++) {
      const start = POOL_HEADER + slot * size - base;
      const here = original.state[pool] === 0 && slot < original.carved[pool] && isSet(original.live, original.at[pool], slot);
      const live = moved ? isSet(pools.live, at, slot) : here;
      if (!live) this.put(Math.max(start, 0), free, -1);
      else if (here) this.live(heap, start, size, number);
      else this.put(Math.max(start, 0), TERM.live, -2);
      if (here) number++;
    }
    const behind = (offset, term) => {
      if (offset - base < OS_PAGE && offset < heap.poolSize) this.put(Math.max(offset - base, 0), term, -1);
    };
    if (pools.carved[pool] < blocks) behind(POOL_HEADER + pools.carved[pool] * size, free === TERM.hole ? TERM.hole : TERM.virgin);
    behind(POOL_HEADER + blocks * size, free === TERM.hole ? TERM.hole : TERM.metadata);
  }

  // A live block from `start`, which may lie before the page, and its slack at its end.
  live(heap, start, size, number) {
    const slack = heap.slackOf(number);
    const spare = start + size - Math.min(slack, size);
    if (spare > 0 && spare > start) this.put(Math.max(start, 0), TERM.live, number);
    if (slack > 0 && start + size > 0) this.put(Math.max(spare, 0), TERM.slack, number);
  }

  tiles(heap, flags, page, unit) {
    const { tiles } = heap;
    const base = heap.addressOf(page);
    for (let t = unit; t < tiles.count && tiles.at[t] < base + OS_PAGE; t++) {
      const kind = tiles.kind[t];
      const start = tiles.at[t] - base;
      const body = start + Math.min(TILE_HEADER[kind], tiles.size[t]);
      if (t > unit && start < 0) break;
      if (body > 0 && body > start) this.put(Math.max(start, 0), TERM.metadata, -1);
      const end = start + tiles.size[t];
      if (end <= 0 || body >= OS_PAGE) continue;
      if (kind <= TILE_KIND.mapped) this.live(heap, body, end - body, tiles.block[t]);
      else if (kind === TILE_KIND.rest) this.put(Math.max(body, 0), TERM.live, tiles.block[t] - 1);
      else this.put(Math.max(body, 0), TILE_TERM[kind] === TERM.pinned && flags[page] & PAGE.hole ? TERM.hole : TILE_TERM[kind], -1);
    }
  }
}

