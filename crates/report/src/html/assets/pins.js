// Which OS pages the blocks of a type or an owner are on, and what they pin there.
//
// The formula is the walker's: on a resident page with `n` live blocks each pins `4096 / n` less its own bytes there, of
// chunks with their header; whole pages inside a chunk are its own and pin nothing.
import { TILE_KIND, OS_PAGE, POOL_HEADER, PAGE } from './terms.js';
import { countSet } from './bits.js';

// `selection`: { type: name } or { owner: head }. Gives `touched` (a page has blocks of it), `own` (their bytes on each
// page) and the sums: pages, blocks, bytes, pinned, gone (bytes that come back if they go).
export function pinsOf(heap, selection) {
  const chosen = groupsOf(heap, selection);
  const result = { own: new Uint16Array(heap.flags.length), pages: 0, blocks: 0, bytes: 0, pinned: 0, gone: 0 };
  if (!heap.blocks || !chosen.includes(1)) return result;
  inPools(heap, chosen, result);
  inTiles(heap, chosen, result);
  for (let page = 0; page < result.own.length; page++) if (result.own[page] > 0 && heap.resident(page)) result.pages++;
  result.pinned = Math.round(Math.max(0, result.pinned));
  return result;
}

// For each group of blocks: it is of the selection.
export function groupsOf(heap, { type, owner }) {
  return Uint8Array.from(heap.groups, (g) => {
    const of = g.type ?? -1;
    const by = g.owner ?? -1;
    return (type === undefined || (of >= 0 && heap.types[of] === type)) && (owner === undefined || (by >= 0 && heap.owners[by].head === owner)) ? 1 : 0;
  });
}

function inPools(heap, chosen, result) {
  const { pools, blocks, flags, poolSize } = heap;
  const per = poolSize / OS_PAGE;
  const n = new Uint32Array(per);
  const bytes = new Uint32Array(per);
  for (let p = 0; p < pools.count; p++) {
    if (pools.state[p] !== 0) continue;
    const size = heap.blockSize(p);
    let number = pools.block[p];
    let any = 0;
    for (let w = pools.at[p]; w < pools.at[p + 1]; w++) {
      for (let word = pools.live[w]; word !== 0; word &= word - 1) {
        if (chosen[blocks[number++]] === 0) continue;
        if (any++ === 0) {
          n.fill(0);
          bytes.fill(0);
        }
        const start = POOL_HEADER + (32 * (w - pools.at[p]) + 31 - Math.clz32(word & -word)) * size;
        const k = start >>> 12;
        const here = Math.min(size, (k + 1) * OS_PAGE - start);
        n[k]++;
        bytes[k] += here;
        if (here < size) {
          n[k + 1]++;
          bytes[k + 1] += size - here;
        }
      }
    }
    if (any === 0) continue;
    result.blocks += any;
    result.bytes += any * size;
    for (let k = 0; k < per; k++) {
      if (n[k] === 0) continue;
      const page = pools.page[p] + k;
      result.own[page] = bytes[k];
      if (!(flags[page] & PAGE.resident)) continue;
      const first = Math.max(0, Math.floor((k * OS_PAGE - POOL_HEADER) / size));
      const last = Math.min(pools.carved[p] - 1, Math.floor(((k + 1) * OS_PAGE - 1 - POOL_HEADER) / size));
      const all = countSet(pools.live, pools.at[p], first, last + 1);
      result.pinned += n[k] * OS_PAGE / all - bytes[k];
      if (n[k] === all && flags[page] & PAGE.exclusive) result.gone += OS_PAGE;
    }
  }
}

// Chunks share only the pages at their ends: those are gathered and shared out when the next page begins.
function inTiles(heap, chosen, result) {
  const { tiles, blocks, flags, regions } = heap;
  let page = -1;
  let all = 0;
  let mine = 0;
  let bytes = 0;
  const flush = () => {
    if (mine > 0) {
      result.own[page] = bytes;
      if (flags[page] & PAGE.resident) {
        result.pinned += mine * OS_PAGE / all - bytes;
        if (mine === all && flags[page] & PAGE.exclusive) result.gone += OS_PAGE;
      }
    }
    all = mine = bytes = 0;
  };
  heap.eachUsedTile((t, r, number) => {
    const kind = tiles.kind[t];
    const own = number >= 0 && chosen[blocks[number]] === 1;
    if (own && kind !== TILE_KIND.rest) {
      result.blocks++;
      result.bytes += heap.tileBlock(t, number).size;
    }
    // A chunk with a mapping of its own has 16 bytes of header, of which 8 are counted as its.
    let from = tiles.at[t] - regions.start[r] + (kind === TILE_KIND.mapped ? 8 : 0);
    const end = tiles.at[t] - regions.start[r] + tiles.size[t];
    while (from < end) {
      const here = regions.page[r] + Math.floor(from / OS_PAGE);
      const edge = Math.min((Math.floor(from / OS_PAGE) + 1) * OS_PAGE, end);
      if (here !== page) {
        flush();
        page = here;
      }
      if (edge - from === OS_PAGE && !own) {
        from = edge;
        continue;
      }
      all++;
      if (own) {
        mine++;
        bytes += edge - from;
      }
      from = edge;
    }
  });
  flush();
}
