// Heaps made for tests: columns as the report stores them, and beside them what each byte is, said the slow way.

export function random(seed) {
  let a = seed >>> 0;
  return () => {
    a = a + 0x6d2b79f5 | 0;
    let t = Math.imul(a ^ a >>> 15, 1 | a);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
}

export function varint(to, value) {
  let n = value;
  while (n >= 128) {
    to.push(n % 128 + 128);
    n = Math.floor(n / 128);
  }
  to.push(n);
}

const TILE_NAMES = ['used', 'mapped', 'cached', 'free', 'top', 'overhead', 'unread', 'rest', 'fast', 'other'];

// A heap of random arenas and malloc heaps. `bytes`: address -> { term, block, own }, for each byte of every region,
// as if every page were resident; `own`: counted as the block's for pins, its header too.
export function madeHeap(seed, { poolSize = 16384, arenas = 3, mallocs = 2, groups = 5, wide = false } = {}) {
  const next = random(seed);
  const pick = (n) => Math.floor(next() * n);
  const regions = [];
  const flags = [];
  const tiles = [];
  const pools = [];
  const live = [];
  const names = [];
  const slack = [];
  const truth = new Map();
  const groupCount = wide ? 300 : groups;
  let address = 0x10000000 + 4096 * pick(100);
  let blocks = 0;
  const block = (size) => {
    names.push(pick(groupCount));
    const spare = next() < 0.2 ? 1 + pick(size) : 0;
    if (spare) slack.push([blocks, spare]);
    return { number: blocks++, spare };
  };
  const arena = (i) => {
    const size = 5 * poolSize;
    const start = address;
    const heap = i % 2 ? 'pymalloc (interpreter 1)' : 'pymalloc';
    const first = Math.ceil(start / poolSize) * poolSize;
    const room = Math.floor((start + size - first) / poolSize);
    const carvedPools = 1 + pick(room);
    for (let a = start; a < start + size; a++) truth.set(a, { term: a >= first && a < first + room * poolSize ? 'virgin' : 'metadata', block: -1 });
    for (let p = 0; p < carvedPools; p++) {
      const at = first + p * poolSize;
      const state = [0, 0, 0, 1, 2][pick(5)];
      const cls = pick(32);
      const bs = 16 * (cls + 1);
      const most = Math.floor((poolSize - 48) / bs);
      const carved = state === 2 ? 0 : 1 + pick(most);
      pools.push(state << 6 | cls, carved & 255, carved >> 8);
      if (state !== 0) {
        for (let a = 0; a < poolSize; a++) truth.set(at + a, { term: state === 2 ? 'unread' : a < 48 ? 'metadata' : 'free', block: -1 });
        continue;
      }
      const words = new Uint8Array(8 * Math.ceil(carved / 64));
      const density = next();
      const slots = [];
      for (let s = 0; s < carved; s++) slots.push(next() < density);
      slots[pick(carved)] = true;
      for (let a = 0; a < poolSize; a++) {
        const s = Math.floor((a - 48) / bs);
        truth.set(at + a, { term: s < 0 || s >= most ? 'metadata' : s >= carved ? 'virgin' : 'pinned', block: -1 });
      }
      slots.forEach((is, s) => {
        if (!is) return;
        words[s >> 3] |= 1 << (s & 7);
        const b = block(bs);
        for (let k = 0; k < bs; k++) truth.set(at + 48 + s * bs + k, { term: k >= bs - b.spare ? 'slack' : 'live', block: b.number, own: true });
      });
      live.push(...words);
      // Pages of a pool in use without a live byte are holes.
      for (let k = 1; k < poolSize / 4096; k++) {
        const page = at + k * 4096;
        let any = false;
        for (let a = page; a < page + 4096; a++) any ||= truth.get(a).block >= 0;
        if (!any) for (let a = page; a < page + 4096; a++) truth.set(a, { term: 'hole', block: -1 });
      }
    }
    regions.push({ start, size, heap, pools: carvedPools, tiles: 0 });
    address = start + size;
  };
  const malloc = (i) => {
    const size = 4096 * (4 + pick(12));
    const start = address;
    const list = [];
    let left = size;
    let last = null;
    while (left > 0) {
      let bytes = next() < 0.1 ? 8 * (2000 + pick(3000)) : 16 * (2 + pick(40));
      if (list.length === 0) bytes = 8 * (1 + pick(4));
      if (bytes > left || left - bytes < 32) bytes = left;
      let kind = list.length === 0 ? (next() < 0.3 && last !== null ? 7 : 5) : [0, 0, 0, 0, 1, 2, 3, 8, 5, 6, 9][pick(11)];
      if (left === bytes && list.length > 0) kind = 4;
      list.push([bytes, kind]);
      left -= bytes;
      last = kind;
    }
    let at = start;
    for (const [bytes, kind] of list) {
      varint(tiles, bytes * 16 + kind);
      const header = [8, 16, 8, 0, 0, 0, 0, 0, 0, 0][kind];
      const b = kind <= 1 ? block(bytes - header) : null;
      const term = ['live', 'live', 'cached', 'pinned', 'top', 'metadata', 'unread', 'live', 'cached', 'other'][kind];
      for (let k = 0; k < bytes; k++) {
        const own = b !== null && k >= header - 8;
        if (k < header) truth.set(at + k, { term: 'metadata', block: -1, own, by: b?.number });
        else truth.set(at + k, { term: b && k >= bytes - b.spare ? 'slack' : term, block: b ? b.number : -1, own, by: b?.number, kind: TILE_NAMES[kind] });
      }
      if (kind === 3) {
        // malloc_trim leaves the chunk's own fields: 40 bytes of the tile.
        const first = Math.ceil((at + 40) / 4096) * 4096;
        for (let page = first; page + 4096 <= at + bytes - 8; page += 4096) for (let a = page; a < page + 4096; a++) truth.get(a).term = 'hole';
      }
      at += bytes;
    }
    regions.push({ start, size, heap: ['malloc main arena', 'malloc thread arenas', 'malloc mmapped chunks'][i % 3], pools: 0, tiles: list.length });
    address = start + size;
  };
  for (let i = 0; i < arenas + mallocs; i++) {
    if (next() < 0.5) address += 4096 * (1 + pick(50));
    if (i % 2 === 0 && i / 2 < arenas || (i - 1) / 2 >= mallocs) arena(i >> 1);
    else malloc(i >> 1);
  }
  for (const r of regions) {
    for (let page = r.start; page < r.start + r.size; page += 4096) {
      let f = next() < 0.8 ? 1 | (next() < 0.9 ? 2 : 0) : next() < 0.3 ? 4 : 0;
      if (f & 1 && truth.get(page).term === 'hole') f |= 8;
      flags.push(f);
      if (!(f & 1)) for (let a = page; a < page + 4096; a++) truth.get(a).away = f & 4 ? 'swapped' : 'absent';
    }
  }
  const types = ['str', 'dict', 'app.Session', 'list'];
  const owners = ['app.A', 'app.B'].map((head) => ({ owner: head + '[dict] -> str', head, root: 'module' }));
  const groupList = Array.from({ length: groupCount }, (_, i) => ({ type: i % 5 === 4 ? null : i % 5, role: 'object', owner: i % 3 === 2 ? null : i % 3, count: 0, bytes: 0 }));
  const slackBytes = [];
  let before = 0;
  for (const [b, bytes] of slack) {
    varint(slackBytes, b - before);
    varint(slackBytes, bytes);
    before = b;
  }
  const column = {
    pages: Uint8Array.from(flags), tiles: Uint8Array.from(tiles), pools: Uint8Array.from(pools), live: Uint8Array.from(live),
    blocks: wide ? new Uint8Array(Uint16Array.from(names).buffer) : Uint8Array.from(names), slack: Uint8Array.from(slackBytes),
  };
  const look = { title: 'made', pool_size: poolSize, map: { regions, types, owners, groups: groupList }, snapshot: {} };
  return { look, column, truth, names, slack, blocks };
}
