// What stands at an address, as facts that the page puts into words. Free of the page.
import { OS_PAGE, RUNGS, TERM, TERMS, TILE_WORDS, PAGE, rungOf } from './terms.js';
import { Runs } from './runs.js';
import { countSet } from './bits.js';

// { address, heap, region, term, block, name, pool, chunk, page }, with null for what there is not; null outside all regions.
export function describe(heap, address) {
  const page = heap.pageAt(address);
  if (page < 0) return null;
  const region = heap.regionOfPage(page);
  const view = heap.accounts.view('now');
  const runs = new Runs().of(heap, view, page);
  const base = heap.addressOf(page);
  let i = 0;
  while (i + 1 < runs.count && runs.start[i + 1] <= address - base) i++;
  const block = runs.block[i] >= 0 ? heap.block(runs.block[i]) : null;
  const unit = heap.unit[page];
  const inPool = unit >= 0 && heap.isPool(page);
  return {
    address, heap: heap.heaps[heap.regions.heap[region]].name, term: TERMS[runs.term[i]], run: { address: base + runs.start[i], size: runs.end(i) - runs.start[i] },
    region: { address: heap.regions.start[region], size: heap.regions.size[region] },
    block: block && { ...block, slack: heap.slackOf(block.number) },
    name: block && heap.nameOf(block.number),
    pool: inPool ? poolAt(heap, unit) : null,
    chunk: unit >= 0 && !inPool ? chunkAt(heap, heap.tileAt(page, address)) : null,
    page: pageAt(heap, view, runs, page),
  };
}

function poolAt(heap, pool) {
  const { pools } = heap;
  const size = heap.blockSize(pool);
  return {
    address: heap.addressOf(pools.page[pool]), size, state: ['in use', 'free', 'unread', 'unread'][pools.state[pool]], carved: pools.carved[pool],
    blocks: Math.floor((heap.poolSize - 48) / size), live: pools.state[pool] === 0 ? countSet(pools.live, pools.at[pool], 0, pools.carved[pool]) : 0,
  };
}

function chunkAt(heap, tile) {
  return { address: heap.tiles.at[tile], size: heap.tiles.size[tile], kind: TILE_WORDS[heap.tiles.kind[tile]] };
}

function pageAt(heap, view, runs, page) {
  const flags = heap.flags[page];
  const live = new Set();
  for (let i = 0; i < runs.count; i++) if (runs.block[i] >= 0) live.add(runs.block[i]);
  const of = (key) => view.terms[page * TERMS.length + TERM[key]];
  return {
    number: page, address: heap.addressOf(page), resident: (flags & PAGE.resident) !== 0, swapped: (flags & PAGE.swapped) !== 0,
    shared: (flags & OWNED) === PAGE.resident, live: live.size, bytes: of('live') + of('slack'),
    free: ['pinned', 'hole', 'free', 'cached', 'top'].reduce((n, k) => n + of(k), 0), rung: rungOf(flags) > 0 ? RUNGS[rungOf(flags)] : null, size: OS_PAGE,
  };
}

const OWNED = PAGE.resident | PAGE.exclusive;

// The nearest live block behind an address, or before it (`step` -1), as its address; null where there is none.
export function nextBlock(heap, address, step) {
  const runs = new Runs();
  const view = heap.accounts.view('now');
  let page = heap.pageAt(address);
  if (page < 0) return null;
  let offset = address - heap.addressOf(page);
  const here = heap.blockAt(address)?.number ?? -1;
  // What is drawn has no block for this many pages: one is looked for no further.
  for (let pages = 0; pages < 65536 && page >= 0 && page < heap.flags.length; pages++) {
    if (heap.unit[page] >= 0) {
      runs.of(heap, view, page);
      for (let k = 0; k < runs.count; k++) {
        const i = step > 0 ? k : runs.count - 1 - k;
        const beyond = step > 0 ? runs.start[i] > offset : runs.start[i] < offset;
        if (beyond && runs.block[i] >= 0 && runs.block[i] !== here) return heap.block(runs.block[i]).address;
      }
    }
    page += step;
    offset = step > 0 ? -1 : OS_PAGE;
  }
  return null;
}
