// What blocks are coloured by: types and owners as a few categories, and their bytes on each OS page.
import { TILE_HEADER, OS_PAGE, POOL_HEADER, PAGE } from './terms.js';

// So many types or owners have a colour of their own.
export const MOST_COLOURED = 12;

// The categories of a heap's blocks by `sort`, `type` or `owner`: `list` of { name, key, bytes, count }, the largest
// first, then others and those without a name; `of[group]` is the category of each group of blocks.
export function categoriesOf(heap, sort) {
  const names = sort === 'type' ? heap.types : heap.owners.map((o) => o.head);
  const index = (g) => (sort === 'type' ? g.type : g.owner) ?? -1;
  const totals = new Map();
  for (const g of heap.groups) {
    const i = index(g);
    const key = i >= 0 ? names[i] : null;
    const total = totals.get(key) ?? { key, name: key, bytes: 0, count: 0 };
    total.bytes += g.bytes;
    total.count += g.count;
    totals.set(key, total);
  }
  const unnamed = totals.get(null) ?? { key: null, bytes: 0, count: 0 };
  totals.delete(null);
  const ranked = [...totals.values()].sort((a, b) => b.bytes - a.bytes);
  const list = ranked.slice(0, MOST_COLOURED);
  const rest = ranked.slice(MOST_COLOURED);
  const sum = (field) => rest.reduce((s, t) => s + t[field], 0);
  const other = { key: null, name: `${rest.length} other ${sort}s`, bytes: sum('bytes'), count: sum('count'), other: true };
  list.push(other, { ...unnamed, name: sort === 'type' ? 'no type known' : 'no owner listed', unnamed: true });
  const place = new Map(list.map((c, i) => [c.key, i]).filter(([key]) => key !== null));
  const of = Uint8Array.from(heap.groups, (g) => {
    const i = index(g);
    return i < 0 ? list.length - 1 : place.get(names[i]) ?? list.length - 2;
  });
  return { list, of };
}

// Bytes of each page by category, for colouring by what blocks are: `of[group]` is the category of a group. Column
// `width - 1` takes what no block has; pages that are not resident count there whole.
export function bytesByCategory(heap, of, width) {
  const sums = new Uint16Array(heap.flags.length * width);
  if (heap.blocks) {
    poolCategories(heap, of, width, sums);
    tileCategories(heap, of, width, sums);
  }
  for (let page = 0; page < heap.flags.length; page++) {
    const at = page * width;
    let rest = OS_PAGE;
    for (let c = 0; c < width - 1; c++) {
      if (heap.flags[page] & PAGE.resident) rest -= sums[at + c];
      else sums[at + c] = 0;
    }
    sums[at + width - 1] = rest;
  }
  return sums;
}

function poolCategories(heap, of, width, sums) {
  const { pools, blocks } = heap;
  for (let p = 0; p < pools.count; p++) {
    if (pools.state[p] !== 0) continue;
    const size = heap.blockSize(p);
    const page = pools.page[p];
    let number = pools.block[p];
    for (let w = pools.at[p]; w < pools.at[p + 1]; w++) {
      const base = POOL_HEADER + 32 * (w - pools.at[p]) * size;
      for (let word = pools.live[w]; word !== 0; word &= word - 1) {
        const start = base + (31 - Math.clz32(word & -word)) * size;
        const at = (page + (start >>> 12)) * width + of[blocks[number++]];
        const room = OS_PAGE - (start & OS_PAGE - 1);
        if (room >= size) {
          sums[at] += size;
        } else {
          sums[at] += room;
          sums[at + width] += size - room;
        }
      }
    }
  }
}

function tileCategories(heap, of, width, sums) {
  const { tiles, blocks, regions } = heap;
  heap.eachUsedTile((t, r, number) => {
    if (number < 0) return;
    let from = tiles.at[t] - regions.start[r] + TILE_HEADER[tiles.kind[t]];
    const end = tiles.at[t] - regions.start[r] + tiles.size[t];
    while (from < end) {
      const k = Math.floor(from / OS_PAGE);
      const edge = Math.min((k + 1) * OS_PAGE, end);
      sums[(regions.page[r] + k) * width + of[blocks[number]]] += edge - from;
      from = edge;
    }
  });
}
