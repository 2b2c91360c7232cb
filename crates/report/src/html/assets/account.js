// The account of a heap, OS page by OS page: bytes of each term.
//
// A view of a heap is what a rung makes of it: `{ flags, pools, back, terms }`, its pages' flags, its pools with their
// live bitmaps, which pages were given back, and bytes per page and term (`terms[page * TERMS.length + term]`).
// Invariant: a page's terms sum to 4096. For `now` the sums equal the accounts of the snapshot's owners.
import { TERM, TERMS, TILE_HEADER, TILE_TERM, OS_PAGE, POOL_HEADER, PAGE } from './terms.js';
import { countSet, isSet, nthSet } from './bits.js';

export const WIDTH = TERMS.length;

// The view of a heap with these flags and pools.
export function viewOf(heap, flags, pools, back) {
  const terms = new Uint16Array(flags.length * WIDTH);
  for (let r = 0; r < heap.regions.count; r++) {
    const from = heap.regions.page[r];
    const upto = heap.regions.page[r + 1];
    if (heap.regions.tiled[r]) tileTerms(heap, flags, terms, r);
    else for (let page = from; page < upto; page++) poolTerms(heap, flags, pools, terms, page);
  }
  slackTerms(heap, flags, pools, terms);
  return { flags, pools, back, terms };
}

// The term of a page that is not resident.
function away(flags) {
  return flags & PAGE.swapped ? TERM.swapped : TERM.absent;
}

// A page of pymalloc's: by the bits of its part of the live bitmap.
function poolTerms(heap, flags, pools, terms, page) {
  const at = page * WIDTH;
  if (!(flags[page] & PAGE.resident)) {
    terms[at + away(flags[page])] = OS_PAGE;
    return;
  }
  const pool = heap.unit[page];
  if (pool < 0) {
    terms[at + (pool === -2 ? TERM.virgin : TERM.metadata)] = OS_PAGE;
    return;
  }
  const start = (page - pools.page[pool]) * OS_PAGE;
  if (pools.state[pool] === 1) {
    const header = start === 0 ? POOL_HEADER : 0;
    terms[at + TERM.metadata] = header;
    terms[at + TERM.free] = OS_PAGE - header;
  } else if (pools.state[pool] !== 0) {
    terms[at + TERM.unread] = OS_PAGE;
  } else {
    const size = 16 * (pools.class[pool] + 1);
    const blocks = Math.floor((heap.poolSize - POOL_HEADER) / size);
    const carvedEnd = POOL_HEADER + pools.carved[pool] * size;
    const usableEnd = POOL_HEADER + blocks * size;
    const end = start + OS_PAGE;
    const live = liveBetween(pools, pool, size, Math.max(start, POOL_HEADER), Math.min(end, carvedEnd));
    if (live === 0 && start > 0) {
      terms[at + TERM.hole] = OS_PAGE;
      return;
    }
    const overlap = (from, upto) => Math.max(0, Math.min(upto, end) - Math.max(from, start));
    const metadata = overlap(0, POOL_HEADER) + overlap(usableEnd, heap.poolSize);
    const virgin = overlap(carvedEnd, usableEnd);
    terms[at + TERM.live] = live;
    terms[at + TERM.metadata] = metadata;
    terms[at + TERM.virgin] = virgin;
    terms[at + TERM.pinned] = OS_PAGE - live - metadata - virgin;
  }
}

// Live bytes of a pool in `from..upto`, counted from its start; both within its carved blocks.
function liveBetween(pools, pool, size, from, upto) {
  if (from >= upto) return 0;
  const at = pools.at[pool];
  const first = Math.floor((from - POOL_HEADER) / size);
  const last = Math.floor((upto - POOL_HEADER - 1) / size);
  let bytes = countSet(pools.live, at, first, last + 1) * size;
  // The blocks at both ends may reach over the border.
  if (isSet(pools.live, at, first)) bytes -= from - (POOL_HEADER + first * size);
  if (isSet(pools.live, at, last)) bytes -= POOL_HEADER + (last + 1) * size - upto;
  return bytes;
}

// The pages of a region of malloc's.
function tileTerms(heap, flags, terms, r) {
  const { tiles } = heap;
  const first = heap.regions.page[r];
  const start = heap.regions.start[r];
  const end = start + heap.regions.size[r];
  const add = (from, upto, term) => {
    let a = from - start;
    while (a < upto - start) {
      const page = first + Math.floor(a / OS_PAGE);
      const b = Math.min((page - first + 1) * OS_PAGE, upto - start);
      const f = flags[page];
      const is = !(f & PAGE.resident) ? away(f) : term === TERM.pinned && f & PAGE.hole ? TERM.hole : term;
      terms[page * WIDTH + is] += b - a;
      a = b;
    }
  };
  for (let t = heap.unit[first]; t < tiles.count && tiles.at[t] >= start && tiles.at[t] < end; t++) {
    const kind = tiles.kind[t];
    const from = tiles.at[t];
    const body = Math.min(from + TILE_HEADER[kind], from + tiles.size[t]);
    if (body > from) add(from, body, TERM.metadata);
    add(body, from + tiles.size[t], TILE_TERM[kind]);
  }
}

// Moves room to spare from live to slack: it is taken to be at the end of its block.
function slackTerms(heap, flags, pools, terms) {
  const { block: of, bytes } = heap.slack;
  const cursor = new BlockCursor(heap);
  for (let i = 0; i < of.length; i++) {
    cursor.seek(of[i]);
    // What a rung moves away takes its slack along, to where is not known.
    if (cursor.inPool && pools.state[cursor.pool] !== 0) continue;
    let from = cursor.end - Math.min(bytes[i], cursor.size);
    while (from < cursor.end) {
      const page = cursor.page + Math.floor(from / OS_PAGE);
      const upto = Math.min((page - cursor.page + 1) * OS_PAGE, cursor.end);
      if (flags[page] & PAGE.resident) {
        terms[page * WIDTH + TERM.live] -= upto - from;
        terms[page * WIDTH + TERM.slack] += upto - from;
      }
      from = upto;
    }
  }
}

// Where blocks are whose numbers only grow: `end` and `size`, counted from the start of `page`.
class BlockCursor {
  constructor(heap) {
    this.heap = heap;
    this.region = 0;
    this.pool = -1;
    this.tile = -1;
  }

  seek(number) {
    const { heap } = this;
    const { pools, tiles, regions } = heap;
    while (heap.regionBlock[this.region + 1] <= number) this.region++;
    const r = regions.byAddress[this.region];
    this.inPool = !regions.tiled[r];
    if (!this.inPool) {
      this.tile = Math.max(this.tile, heap.regionTile[this.region]);
      while (tiles.block[this.tile + 1] <= number) this.tile++;
      const kind = tiles.kind[this.tile];
      this.page = regions.page[r];
      // What lies behind a stretch that was left out is not looked at: the end that counts is the region's.
      this.size = tiles.size[this.tile] - TILE_HEADER[kind];
      this.end = tiles.at[this.tile] - regions.start[r] + tiles.size[this.tile];
    } else {
      this.pool = Math.max(this.pool, heap.regionPool[this.region]);
      while (pools.block[this.pool + 1] <= number) this.pool++;
      const slot = nthSet(pools.live, pools.at[this.pool], number - pools.block[this.pool]);
      this.size = heap.blockSize(this.pool);
      this.page = pools.page[this.pool];
      this.end = POOL_HEADER + (slot + 1) * this.size;
    }
  }
}
