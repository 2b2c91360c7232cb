// A heap as each rung of the ladder would leave it, and the sums of that.
//
// `trim` and `purge` give pages back and change nothing else. `compact` empties the pools that the walker says can be
// emptied and fills free blocks of the densest others; which block goes where is a guess, the numbers are not. `ideal`
// is a picture of a bound: per size class and heap the fullest pools, filled; of malloc the first pages of each arena.
import { TERM, TERMS, OS_PAGE, POOL_HEADER, PAGE, RUNGS, rungOf } from './terms.js';
import { countSet, isSet } from './bits.js';
import { viewOf, WIDTH } from './account.js';
import { Runs } from './runs.js';

export class Accounts {
  constructor(heap) {
    this.heap = heap;
    this.views = {};
  }

  // What a rung makes of the heap; made when first asked for.
  view(rung) {
    return this.views[rung] ??= this.made(rung);
  }

  made(rung) {
    const { heap } = this;
    if (rung === 'now') return viewOf(heap, heap.flags, heap.pools, new Uint8Array(heap.flags.length));
    const back = returnedBy(heap, rung);
    if (rung === 'compact') return compacted(heap, back);
    if (rung === 'ideal') return packed(heap, this.view('now'));
    return { ...this.view('now'), back };
  }

  // Per heap and in all: bytes by term's key, `resident` and `returned`.
  sums(rung) {
    const view = this.view(rung);
    const heaps = this.heap.heaps.map((h) => ({ heap: h.name, ...sumOfPages(view, h.page, h.page + h.pages) }));
    return { heaps, all: sumOfPages(view, 0, this.heap.flags.length), unplaced: view.unplaced ?? 0 };
  }

  // The same of some pages alone.
  sumsOf(rung, from, upto) {
    return sumOfPages(this.view(rung), from, upto);
  }

  // Live bytes on pages that are not resident, of pages `from..upto`.
  liveNotResident(from, upto) {
    const { heap } = this;
    const runs = new Runs();
    let bytes = 0;
    for (let page = from; page < upto; page++) {
      if (heap.resident(page) || heap.unit[page] < 0) continue;
      runs.of(heap, this.view('now'), page);
      for (let i = 0; i < runs.count; i++) if (runs.block[i] >= 0) bytes += runs.end(i) - runs.start[i];
    }
    return bytes;
  }
}

// Sums of the pages `from..upto` of a view.
export function sumOfPages(view, from, upto) {
  const sums = new Float64Array(WIDTH + 1);
  const { terms, back } = view;
  for (let p = from; p < upto; p++) {
    if (back[p]) sums[TERM.returned] += OS_PAGE;
    else for (let t = 0; t < WIDTH; t++) sums[t] += terms[p * WIDTH + t];
  }
  const named = Object.fromEntries(TERMS.map((t, i) => [t.key, sums[i]]));
  const resident = (upto - from) * OS_PAGE - sums[TERM.absent] - sums[TERM.swapped] - sums[TERM.other] - sums[TERM.returned];
  return { ...named, returned: sums[TERM.returned], resident };
}

function returnedBy(heap, rung) {
  const level = RUNGS.indexOf(rung);
  return Uint8Array.from(heap.flags, (f) => rungOf(f) > 0 && rungOf(f) <= level ? 1 : 0);
}

// Pools whose bitmaps have room for every block, to be changed.
function roomy(heap) {
  const old = heap.pools;
  const at = new Uint32Array(old.count + 1);
  for (let i = 0; i < old.count; i++) at[i + 1] = at[i] + (old.state[i] === 0 ? Math.ceil(blocksOf(heap, i) / 32) : 0);
  const live = new Uint32Array(at[old.count]);
  for (let i = 0; i < old.count; i++) live.set(old.live.subarray(old.at[i], Math.min(old.at[i + 1], old.at[i] + at[i + 1] - at[i])), at[i]);
  return { ...old, state: old.state.slice(), carved: old.carved.slice(), at, live };
}

function blocksOf(heap, pool) {
  return Math.floor((heap.poolSize - POOL_HEADER) / heap.blockSize(pool));
}

// Pools in use by heap and size class: blocks move within these only.
function poolsByClass(heap) {
  const { pools, regions } = heap;
  const classes = new Map();
  for (let i = 0; i < pools.count; i++) {
    if (pools.state[i] !== 0) continue;
    const key = regions.heap[heap.regionOfPage(pools.page[i])] * 32 + pools.class[i];
    if (!classes.has(key)) classes.set(key, []);
    classes.get(key).push({ pool: i, used: countSet(pools.live, pools.at[i], 0, pools.carved[i]) });
  }
  return classes;
}

// The pools that compaction empties are those with a page that it returns.
function compacted(heap, back) {
  const pools = roomy(heap);
  const per = heap.poolSize / OS_PAGE;
  let unplaced = 0;
  for (const list of poolsByClass(heap).values()) {
    const emptied = ({ pool }) => {
      for (let k = 0; k < per; k++) if (rungOf(heap.flags[pools.page[pool] + k]) === 3) return true;
      return false;
    };
    let moved = 0;
    for (const p of list.filter(emptied)) {
      moved += p.used;
      pools.state[p.pool] = 1;
    }
    const rest = list.filter((p) => pools.state[p.pool] === 0).sort((a, b) => b.used - a.used);
    for (const virgin of [false, true]) {
      for (const p of rest) {
        if (moved > 0) moved -= filled(heap, pools, back, p.pool, moved, virgin);
      }
    }
    unplaced += moved * heap.blockSize(list[0].pool);
  }
  return { ...viewOf(heap, heap.flags, pools, back), unplaced };
}

// Makes free blocks of a pool live, at most so many, where their pages stay; how many.
function filled(heap, pools, back, pool, most, virgin) {
  const size = heap.blockSize(pool);
  const [from, upto] = virgin ? [heap.pools.carved[pool], blocksOf(heap, pool)] : [0, heap.pools.carved[pool]];
  const stays = (offset) => {
    const page = pools.page[pool] + Math.floor(offset / OS_PAGE);
    return !back[page] && heap.resident(page);
  };
  let n = 0;
  for (let slot = from; slot < upto && n < most; slot++) {
    const start = POOL_HEADER + slot * size;
    if (isSet(pools.live, pools.at[pool], slot) || !stays(start) || !stays(start + size - 1)) continue;
    setBit(pools.live, pools.at[pool], slot);
    pools.carved[pool] = Math.max(pools.carved[pool], slot + 1);
    n++;
  }
  return n;
}

function setBit(words, at, i) {
  words[at + (i >>> 5)] |= 1 << (i & 31);
}

const OWN = PAGE.resident | PAGE.exclusive;

// Perfect packing. `flat`: pages of which no more is known than their terms.
function packed(heap, now) {
  const back = returnedBy(heap, 'purge');
  const flags = heap.flags.slice();
  const pools = roomy(heap);
  packPools(heap, now, flags, pools, back);
  const flat = new Uint8Array(flags.length);
  const packs = packTiles(heap, now, back);
  const view = viewOf(heap, flags, pools, back);
  for (const pack of packs) layDown(pack, view.terms, flat);
  return { ...view, flat };
}

function packPools(heap, now, flags, pools, back) {
  const per = heap.poolSize / OS_PAGE;
  const own = (page) => (heap.flags[page] & OWN) === OWN;
  // Pages of this process alone that could be read, and of these what a purge returns already.
  let exclusive = 0;
  let purged = 0;
  for (let r = 0; r < heap.regions.count; r++) {
    if (heap.regions.tiled[r]) continue;
    for (let page = heap.regions.page[r]; page < heap.regions.page[r + 1]; page++) {
      const unit = heap.unit[page];
      if (own(page) && !(unit >= 0 && heap.pools.state[unit] > 1)) exclusive++;
      purged += back[page];
    }
  }
  const keep = [];
  let kept = 0;
  for (const list of poolsByClass(heap).values()) {
    const size = heap.blockSize(list[0].pool);
    const blocks = blocksOf(heap, list[0].pool);
    let live = 0;
    for (const p of list) {
      p.own = 0;
      for (let k = 0; k < per; k++) {
        const page = heap.pools.page[p.pool] + k;
        if (!own(page)) continue;
        p.own++;
        live += now.terms[page * WIDTH + TERM.live] + now.terms[page * WIDTH + TERM.slack];
      }
    }
    let left = Math.ceil(live / size);
    list.sort((a, b) => b.own - a.own || b.used - a.used);
    for (const p of list) {
      if (left === 0) break;
      const n = Math.min(left, blocks);
      const pages = Math.min(per, Math.ceil((POOL_HEADER + n * size) / OS_PAGE));
      keep.push({ pool: p.pool, blocks: n, pages });
      kept += pages;
      left -= n;
    }
  }
  // The rung below gives more: there is nothing to pack.
  if (exclusive - kept <= purged) return;
  for (let r = 0; r < heap.regions.count; r++) {
    if (heap.regions.tiled[r]) continue;
    for (let page = heap.regions.page[r]; page < heap.regions.page[r + 1]; page++) {
      const unit = heap.unit[page];
      back[page] = own(page) && !(unit >= 0 && heap.pools.state[unit] > 1) ? 1 : 0;
    }
  }
  for (const { pool, blocks, pages } of keep) {
    for (let k = 0; k < pages; k++) {
      back[pools.page[pool] + k] = 0;
      flags[pools.page[pool] + k] |= OWN;
    }
    pools.carved[pool] = blocks;
    pools.live.fill(0, pools.at[pool], pools.at[pool + 1]);
    for (let slot = 0; slot < blocks; slot++) setBit(pools.live, pools.at[pool], slot);
  }
}

// What of each arena of malloc's would stay: its first pages, with its live bytes and headers.
function packTiles(heap, now, back) {
  const arenas = new Map();
  for (let r = 0; r < heap.regions.count; r++) {
    const { name } = heap.heaps[heap.regions.heap[r]];
    // Chunks with a mapping of their own are packed as they are.
    if (!heap.regions.tiled[r] || name.includes('mmapped')) continue;
    // The heaps of thread arenas begin at multiples of 64 MiB.
    const key = name.includes('thread') ? name + Math.floor(heap.regions.start[r] / 2 ** 26) : name;
    const arena = arenas.get(key) ?? { pages: [], live: 0, metadata: 0, trimmed: 0 };
    arenas.set(key, arena);
    for (let page = heap.regions.page[r]; page < heap.regions.page[r + 1]; page++) {
      const at = page * WIDTH;
      arena.trimmed += back[page];
      if ((heap.flags[page] & OWN) !== OWN || now.terms[at + TERM.unread] > 0) continue;
      arena.pages.push(page);
      arena.live += now.terms[at + TERM.live] + now.terms[at + TERM.slack];
      arena.metadata += now.terms[at + TERM.metadata];
    }
  }
  const packs = [];
  for (const arena of arenas.values()) {
    const kept = Math.ceil((arena.live + arena.metadata) / OS_PAGE);
    if (arena.pages.length - kept <= arena.trimmed) continue;
    arena.pages.forEach((page, i) => { back[page] = i < kept ? 0 : 1; });
    packs.push({ pages: arena.pages.slice(0, kept), live: arena.live, metadata: arena.metadata });
  }
  return packs;
}

function layDown({ pages, live, metadata }, terms, flat) {
  const left = [[TERM.live, live], [TERM.metadata, metadata], [TERM.top, Infinity]];
  for (const page of pages) {
    terms.fill(0, page * WIDTH, (page + 1) * WIDTH);
    flat[page] = 1;
    let room = OS_PAGE;
    for (const of of left) {
      const bytes = Math.min(room, of[1]);
      terms[page * WIDTH + of[0]] += bytes;
      of[1] -= bytes;
      room -= bytes;
    }
  }
}
