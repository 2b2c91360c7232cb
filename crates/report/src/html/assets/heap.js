// A walked heap: its regions, pools, tiles and blocks as typed arrays, and what stands at an address. Free of the page.
//
// OS pages are numbered heap by heap, within one by address: the order in which they are drawn. Pools, tiles and blocks
// keep the order of addresses that they come in; a block's number is its place among `blocks`. Knows nothing of sums and
// rungs (`account.js`, `rungs.js`), of who pins (`pins.js`), nor of pictures.
import { TILE_KIND, TILE_HEADER, OS_PAGE, POOL_HEADER } from './terms.js';
import { varints } from './columns.js';
import { lastNotAbove, popcount, isSet, countSet, nthSet } from './bits.js';
import { Accounts } from './rungs.js';
import { pinsOf } from './pins.js';

// What `unit` says of OS pages that no carved pool and no tile covers.
export const EDGE = -1;
export const UNCARVED = -2;

export class Heap {
  // `look`: of the facts; `column`: name -> bytes or null; `index`: which look of the page it is.
  constructor(look, column, index = 0) {
    this.look = look;
    this.index = index;
    this.problem = null;
    this.poolSize = look.pool_size || 16384;
    const head = look.map;
    this.types = head?.types ?? [];
    this.owners = head?.owners ?? [];
    this.groups = head?.groups ?? [];
    this.named = Array.isArray(head?.types);
    if (head) {
      try {
        this.problem = this.decode(head, column);
      } catch (error) {
        this.problem = String(error.message ?? error);
      }
    } else {
      this.problem = 'no map of the heaps was made';
    }
    if (this.problem !== null) this.empty();
    this.accounts = new Accounts(this);
  }

  // A heap in which nothing is, so that whoever draws it need not ask.
  empty() {
    this.named = false;
    this.regions = { count: 0, start: new Float64Array(), size: new Float64Array(), page: new Uint32Array(1), heap: new Uint16Array(), byAddress: new Uint32Array(), tiled: new Uint8Array() };
    this.heaps = [];
    this.flags = new Uint8Array();
    this.unit = new Int32Array();
    this.pools = { count: 0, state: new Uint8Array(), class: new Uint8Array(), carved: new Uint16Array(), at: new Uint32Array(1), live: new Uint32Array(), block: new Uint32Array(1), page: new Uint32Array() };
    this.tiles = { count: 0, at: new Float64Array(), size: new Float64Array(), kind: new Uint8Array(), block: new Uint32Array(1) };
    this.blocks = null;
    this.slack = { block: new Uint32Array(), bytes: new Uint32Array() };
    this.blockCount = 0;
  }

  // Says what does not fit, or null.
  decode(head, column) {
    for (const name of ['pages', 'tiles', 'pools', 'live', ...(this.named ? ['blocks', 'slack'] : [])]) {
      if (!column[name]) return `the column of ${name} is damaged`;
    }
    return this.takeRegions(head.regions, column.pages) ?? this.takePools(head.regions, column.pools, column.live)
      ?? this.takeTiles(head.regions, column.tiles) ?? this.takeBlocks(column);
  }

  takeRegions(stored, flags) {
    if (!Array.isArray(stored)) return 'there are no regions';
    const count = stored.length;
    const names = [...new Set(stored.map((r) => String(r.heap)))].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
    if (names.length > 65535) return 'there are too many heaps';
    const heapOf = new Map(names.map((n, i) => [n, i]));
    const of = stored.map((r) => heapOf.get(String(r.heap)));
    const order = stored.map((_, i) => i).sort((a, b) => of[a] - of[b] || a - b);
    // `stored`: which region of the head it is; `page`: its first, with the number of all behind the last.
    const r = {
      count, start: new Float64Array(count), size: new Float64Array(count), heap: new Uint16Array(count),
      page: new Uint32Array(count + 1), stored: Uint32Array.from(order), byAddress: new Uint32Array(count), tiled: new Uint8Array(count),
    };
    const first = new Float64Array(count + 1);
    let end = 0;
    for (let i = 0; i < count; i++) {
      const { start, size } = stored[i];
      if (!(Number.isSafeInteger(start) && Number.isSafeInteger(size) && Number.isSafeInteger(start + size))) return 'a region is out of bounds';
      if (start < end || start % OS_PAGE !== 0 || size % OS_PAGE !== 0 || size <= 0) return 'regions are out of order';
      end = start + size;
      first[i + 1] = first[i] + size / OS_PAGE;
    }
    if (first[count] !== flags.length) return 'pages and regions differ';
    this.flags = new Uint8Array(flags.length);
    let page = 0;
    for (let i = 0; i < count; i++) {
      const s = order[i];
      r.start[i] = stored[s].start;
      r.size[i] = stored[s].size;
      r.heap[i] = of[s];
      r.tiled[i] = stored[s].tiles > 0 ? 1 : 0;
      r.page[i] = page;
      r.byAddress[s] = i;
      this.flags.set(flags.subarray(first[s], first[s + 1]), page);
      page += r.size[i] / OS_PAGE;
    }
    r.page[count] = page;
    this.regions = r;
    this.unit = new Int32Array(page).fill(EDGE);
    this.heaps = names.map((name, h) => {
      const from = r.heap.indexOf(h);
      const upto = r.heap.lastIndexOf(h) + 1;
      return { name, index: h, from, upto, page: r.page[from], pages: r.page[upto] - r.page[from] };
    });
    return null;
  }

  // Pools come in order of address, as the regions of the head do.
  takePools(stored, records, live) {
    const count = records.length / 3;
    if (!Number.isInteger(count) || live.length % 8 !== 0) return 'the column of pools is damaged';
    const p = {
      count, state: new Uint8Array(count), class: new Uint8Array(count), carved: new Uint16Array(count), at: new Uint32Array(count + 1),
      live: new Uint32Array(live.buffer, live.byteOffset, live.length / 4), block: new Uint32Array(count + 1), page: new Uint32Array(count),
    };
    let words = 0;
    let blocks = 0;
    for (let i = 0; i < count; i++) {
      const first = records[3 * i];
      const carved = records[3 * i + 1] | records[3 * i + 2] << 8;
      p.state[i] = first >> 6;
      p.class[i] = first & 31;
      p.carved[i] = carved;
      p.at[i] = words;
      // Blocks are numbered when those of malloc are known too; here each pool's own.
      p.block[i] = blocks;
      if (first >> 6 === 0) {
        const end = words + 2 * Math.ceil(carved / 64);
        if (end > p.live.length || POOL_HEADER + carved * 16 * (p.class[i] + 1) > this.poolSize) return 'pools and live bitmaps differ';
        for (; words < end; words++) blocks += popcount(p.live[words]);
        if (carved % 64 !== 0 && anyBeyond(p.live, p.at[i], carved, end)) return 'a block is live that was never carved';
      }
    }
    p.at[count] = words;
    p.block[count] = blocks;
    if (words !== p.live.length) return 'pools and live bitmaps differ';
    this.pools = p;
    const per = this.poolSize / OS_PAGE;
    if (!Number.isInteger(per) || per < 1) return 'the size of pools is no multiple of an OS page';
    let pool = 0;
    this.regionPool = new Uint32Array(stored.length);
    for (let s = 0; s < stored.length; s++) {
      this.regionPool[s] = pool;
      const r = this.regions.byAddress[s];
      const { start, size } = stored[s];
      const edge = (Math.ceil(start / this.poolSize) * this.poolSize - start) / OS_PAGE;
      const room = Math.max(0, Math.floor((size / OS_PAGE - edge) / per));
      const pools = stored[s].pools;
      if (!(pools >= 0 && pools <= room && pool + pools <= count)) return 'pools and regions differ';
      const first = this.regions.page[r] + edge;
      for (let n = 0; n < pools; n++, pool++) {
        p.page[pool] = first + n * per;
        this.unit.fill(pool, first + n * per, first + (n + 1) * per);
      }
      if (!stored[s].tiles) this.unit.fill(UNCARVED, first + pools * per, first + room * per);
    }
    return pool === count ? null : 'pools and regions differ';
  }

  takeTiles(stored, bytes) {
    const words = varints(bytes);
    if (!words) return 'the column of tiles is damaged';
    const count = words.length;
    const t = { count, at: new Float64Array(count), size: words, kind: new Uint8Array(count), block: new Uint32Array(count + 1) };
    let tile = 0;
    let blocks = 0;
    this.regionTile = new Uint32Array(stored.length);
    for (let s = 0; s < stored.length; s++) {
      this.regionTile[s] = tile;
      const upto = tile + stored[s].tiles;
      if (!(stored[s].tiles >= 0 && upto <= count)) return 'tiles and regions differ';
      if (stored[s].tiles === 0) continue;
      const start = stored[s].start;
      const firstPage = this.regions.page[this.regions.byAddress[s]];
      let at = start;
      // The next OS page whose first byte no tile has covered yet.
      let page = 0;
      for (; tile < upto; tile++) {
        const word = words[tile];
        const size = Math.floor(word / 16);
        const kind = word % 16;
        if (kind > TILE_KIND.other) return 'a tile is of no known kind';
        t.at[tile] = at;
        t.size[tile] = size;
        t.kind[tile] = kind;
        t.block[tile] = blocks;
        if (kind <= TILE_KIND.mapped) blocks++;
        at += size;
        if (at > start + stored[s].size) return 'tiles and regions differ';
        const end = Math.ceil((at - start) / OS_PAGE);
        if (end > page) {
          this.unit.fill(tile, firstPage + page, firstPage + end);
          page = end;
        }
      }
      if (at !== start + stored[s].size) return 'tiles and regions differ';
    }
    t.block[count] = blocks;
    this.tiles = t;
    return tile === count ? null : 'tiles and regions differ';
  }

  // Numbers all blocks, those of the regions in order of address.
  takeBlocks(column) {
    const { pools, tiles, regions } = this;
    const regionBlock = new Uint32Array(regions.count + 1);
    let shiftPools = 0;
    let shiftTiles = 0;
    let before = 0;
    // Pools and tiles counted their own blocks only; either sort's numbers move by what the other has before.
    for (let s = 0; s < regions.count; s++) {
      regionBlock[s] = before;
      const [pool, poolEnd] = [this.regionPool[s], s + 1 < regions.count ? this.regionPool[s + 1] : pools.count];
      const [tile, tileEnd] = [this.regionTile[s], s + 1 < regions.count ? this.regionTile[s + 1] : tiles.count];
      const inPools = pools.block[poolEnd] - pools.block[pool];
      const inTiles = tiles.block[tileEnd] - tiles.block[tile];
      for (let i = pool; i < poolEnd; i++) pools.block[i] += shiftPools;
      for (let i = tile; i < tileEnd; i++) tiles.block[i] += shiftTiles;
      shiftPools += inTiles;
      shiftTiles += inPools;
      before += inPools + inTiles;
    }
    regionBlock[regions.count] = before;
    pools.block[pools.count] = before;
    tiles.block[tiles.count] = before;
    this.regionBlock = regionBlock;
    this.blockCount = before;
    this.blocks = null;
    this.slack = { block: new Uint32Array(), bytes: new Uint32Array() };
    if (!this.named) return null;
    const wide = this.groups.length > 256;
    const bytes = column.blocks;
    if (bytes.length !== before * (wide ? 2 : 1)) return 'blocks and their names differ in number';
    this.blocks = wide ? new Uint16Array(bytes.buffer, bytes.byteOffset, before) : bytes;
    let most = 0;
    for (let i = 0; i < before; i++) if (this.blocks[i] > most) most = this.blocks[i];
    if (before > 0 && most >= this.groups.length) return 'a block has a name that is none';
    const known = (of, names) => of === null || of === undefined || (of >= 0 && of < names.length);
    if (!this.groups.every((g) => known(g.type, this.types) && known(g.owner, this.owners))) return 'a group has a name that is none';
    return this.takeSlack(column.slack);
  }

  takeSlack(bytes) {
    const words = varints(bytes);
    if (!words || words.length % 2 !== 0) return 'the column of slack is damaged';
    const count = words.length / 2;
    const slack = { block: new Uint32Array(count), bytes: new Uint32Array(count) };
    let block = 0;
    for (let i = 0; i < count; i++) {
      block += words[2 * i];
      if (block >= this.blockCount) return 'slack is of a block that is none';
      slack.block[i] = block;
      slack.bytes[i] = words[2 * i + 1];
    }
    this.slack = slack;
    return null;
  }

  // The region, in order of pages, that an address lies in; -1: none.
  regionAt(address) {
    const { start, size, byAddress, count } = this.regions;
    const s = lastNotAbove(count, (i) => start[byAddress[i]], address);
    return s >= 0 && address < start[byAddress[s]] + size[byAddress[s]] ? byAddress[s] : -1;
  }

  regionOfPage(page) {
    const first = this.regions.page;
    return lastNotAbove(this.regions.count, (i) => first[i], page);
  }

  // The OS page that an address lies on; -1: none.
  pageAt(address) {
    const r = this.regionAt(address);
    return r < 0 ? -1 : this.regions.page[r] + Math.floor((address - this.regions.start[r]) / OS_PAGE);
  }

  addressOf(page) {
    const r = this.regionOfPage(page);
    return this.regions.start[r] + (page - this.regions.page[r]) * OS_PAGE;
  }

  resident(page) {
    return (this.flags[page] & 1) === 1;
  }

  // Room to spare in a block.
  slackOf(block) {
    const { block: of, bytes } = this.slack;
    const i = lastNotAbove(of.length, (k) => of[k], block);
    return i >= 0 && of[i] === block ? bytes[i] : 0;
  }

  // Where a block is and how large: { address, size, pool, slot } or { address, size, tile }.
  block(number) {
    if (!(number >= 0 && number < this.blockCount)) return null;
    const { pools, tiles } = this;
    const s = lastNotAbove(this.regions.count, (i) => this.regionBlock[i], number);
    const more = s + 1 < this.regions.count;
    const [pool, poolEnd] = [this.regionPool[s], more ? this.regionPool[s + 1] : pools.count];
    if (poolEnd > pool) {
      const p = pool + lastNotAbove(poolEnd - pool, (i) => pools.block[pool + i], number);
      const slot = nthSet(pools.live, pools.at[p], number - pools.block[p]);
      return this.poolBlock(p, slot, number);
    }
    const [tile, tileEnd] = [this.regionTile[s], more ? this.regionTile[s + 1] : tiles.count];
    // The last tile whose number is not above is a block: those behind it have larger ones.
    const t = tile + lastNotAbove(tileEnd - tile, (i) => tiles.block[tile + i], number);
    return this.tileBlock(t, number);
  }

  poolBlock(pool, slot, number) {
    const size = this.blockSize(pool);
    return { number, pool, slot, size, address: this.addressOf(this.pools.page[pool]) + POOL_HEADER + slot * size };
  }

  // A chunk of malloc's, with what of it lies behind a stretch that was left out.
  tileBlock(tile, number) {
    const { at, size, kind } = this.tiles;
    const address = at[tile] + TILE_HEADER[kind[tile]];
    let end = at[tile] + size[tile];
    for (let t = tile + 1; t < this.tiles.count && kind[t] === TILE_KIND.rest; t++) end = at[t] + size[t];
    return { number, tile, address, size: end - address };
  }

  blockSize(pool) {
    return 16 * (this.pools.class[pool] + 1);
  }

  // The live block that an address lies in, or null.
  blockAt(address) {
    const page = this.pageAt(address);
    if (page < 0) return null;
    const unit = this.unit[page];
    if (unit < 0) return null;
    return this.isPool(page) ? this.poolBlockAt(unit, address) : this.tileBlockAt(this.tileAt(page, address), address);
  }

  poolBlockAt(pool, address) {
    const { state, carved, live, at, block } = this.pools;
    if (state[pool] !== 0) return null;
    const slot = Math.floor((address - this.addressOf(this.pools.page[pool]) - POOL_HEADER) / this.blockSize(pool));
    if (slot < 0 || slot >= carved[pool] || !isSet(live, at[pool], slot)) return null;
    return this.poolBlock(pool, slot, block[pool] + countSet(live, at[pool], 0, slot));
  }

  tileBlockAt(tile, address) {
    const { at, kind, block } = this.tiles;
    let t = tile;
    if (kind[t] > TILE_KIND.mapped && kind[t] !== TILE_KIND.rest) return null;
    if (kind[t] !== TILE_KIND.rest) return address >= at[t] + TILE_HEADER[kind[t]] ? this.tileBlock(t, block[t]) : null;
    while (t >= 0 && kind[t] === TILE_KIND.rest) t--;
    return t >= 0 && kind[t] <= TILE_KIND.mapped ? this.tileBlock(t, block[t]) : null;
  }

  // Whether a page that has a unit belongs to a pool.
  isPool(page) {
    return this.regions.tiled[this.regionOfPage(page)] === 0;
  }

  // The tile that an address on this page lies in.
  tileAt(page, address) {
    const first = this.unit[page];
    return first + lastNotAbove(this.tiles.count - first, (i) => this.tiles.at[first + i], address);
  }

  // Calls back with each tile that a live block is in, in order of address: tile, its region, the block's number.
  eachUsedTile(visit) {
    const { tiles, regions } = this;
    for (let s = 0; s < regions.count; s++) {
      const r = regions.byAddress[s];
      if (!regions.tiled[r]) continue;
      const upto = s + 1 < regions.count ? this.regionTile[s + 1] : tiles.count;
      for (let t = this.regionTile[s]; t < upto; t++) {
        const kind = tiles.kind[t];
        if (kind <= TILE_KIND.mapped) visit(t, r, tiles.block[t]);
        else if (kind === TILE_KIND.rest) visit(t, r, tiles.block[t] - 1);
      }
    }
  }

  // Live blocks of a pool.
  liveIn(pool) {
    return this.pools.state[pool] === 0 ? countSet(this.pools.live, this.pools.at[pool], 0, this.pools.carved[pool]) : 0;
  }

  // The group of a block: { type, role, owner, head, root }, with null for what is not known.
  nameOf(block) {
    if (!this.blocks || !(block >= 0)) return null;
    const group = this.groups[this.blocks[block]];
    const owner = this.owners[group.owner ?? -1];
    return { type: this.types[group.type ?? -1] ?? null, role: String(group.role), owner: owner?.owner ?? null, head: owner?.head ?? null, root: owner?.root ?? null };
  }

  // Bytes of each term, heap by heap, at a rung: see `rungs.js`.
  sums(rung = 'now') {
    return this.accounts.sums(rung);
  }

  // The OS pages that a type's or an owner's blocks are on, and what they pin: see `pins.js`.
  pages(selection) {
    return pinsOf(this, selection);
  }
}

// pymalloc first, then malloc's heaps in the order of the account.
function rank(name) {
  const i = ['pymalloc', 'malloc main arena', 'malloc thread arenas', 'malloc mmapped chunks'].findIndex((n) => name.startsWith(n));
  return i < 0 ? 9 : i;
}

function anyBeyond(words, at, carved, end) {
  for (let i = carved; i < 32 * (end - at); i++) if (isSet(words, at, i)) return true;
  return false;
}
