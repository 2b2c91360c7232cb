// The heap's arithmetic against a count of every byte.
import test from 'node:test';
import assert from 'node:assert/strict';
import { Heap } from '../assets/heap.js';
import { Runs } from '../assets/runs.js';
import { TERMS, TERM } from '../assets/terms.js';
import { bytesByCategory, categoriesOf } from '../assets/categories.js';
import { keepersOf } from '../assets/mapcard.js';
import { madeHeap } from './made.mjs';

const SHAPES = [{}, { poolSize: 4096 }, { wide: true }, { arenas: 0, mallocs: 4 }, { arenas: 4, mallocs: 0 }, { arenas: 6, mallocs: 6 }];

function heaps(count) {
  return SHAPES.flatMap((shape, i) => Array.from({ length: count }, (_, k) => madeHeap(100 * i + k + 1, shape)));
}

test('a heap of all parts opens', () => {
  for (const made of heaps(4)) {
    const heap = new Heap(made.look, made.column);
    assert.equal(heap.problem, null);
    assert.equal(heap.blockCount, made.blocks);
  }
});

test('the sums are those of every byte', () => {
  for (const made of heaps(4)) {
    const heap = new Heap(made.look, made.column);
    for (const { heap: name, ...sums } of heap.sums().heaps) {
      const expected = Object.fromEntries(TERMS.map((t) => [t.key, 0]));
      for (const r of made.look.map.regions.filter((r) => r.heap === name)) {
        for (let a = r.start; a < r.start + r.size; a++) {
          const { term, away } = made.truth.get(a);
          expected[away ?? term]++;
        }
      }
      const { returned, resident, ...terms } = sums;
      assert.deepEqual(terms, expected);
      assert.equal(returned, 0);
      assert.equal(resident, TERMS.slice(0, TERM.other).reduce((s, t) => s + expected[t.key], 0));
    }
  }
});

test('runs and blocks are those of every byte', () => {
  const runs = new Runs();
  for (const made of heaps(2)) {
    const heap = new Heap(made.look, made.column);
    const view = heap.accounts.view('now');
    for (let page = 0; page < heap.flags.length; page++) {
      runs.of(heap, view, page);
      const base = heap.addressOf(page);
      assert.equal(heap.pageAt(base + 4095), page);
      assert.equal(runs.start[0], 0);
      for (let i = 0; i < runs.count; i++) {
        assert.ok(runs.end(i) > runs.start[i]);
        for (let k = runs.start[i]; k < runs.end(i); k++) {
          const { term, block, kind, away } = made.truth.get(base + k);
          // Holes of malloc are told by flags, which pages that are not resident do not have.
          const expected = away && term === 'hole' && !made.look.map.regions[heap.regions.stored[heap.regionOfPage(page)]].pools ? 'pinned' : term;
          assert.equal(TERMS[runs.term[i]].key, expected, `at ${(base + k).toString(16)}`);
          if (kind === 'rest') continue;
          assert.equal(runs.block[i], block);
          if (k % 7 !== 0) continue;
          const found = heap.blockAt(base + k);
          assert.equal(found ? found.number : -1, block);
          if (found) assert.deepEqual(heap.block(block), found);
        }
      }
    }
    for (const [block, bytes] of made.slack) assert.equal(heap.slackOf(block), bytes);
  }
});

test('pins are those of the formula', () => {
  for (const made of heaps(3)) {
    const heap = new Heap(made.look, made.column);
    for (const selection of [{ type: 'str' }, { type: 'app.Session' }, { owner: 'app.A' }, { owner: 'app.B' }]) {
      const { groups, types, owners, regions } = made.look.map;
      const mine = (block) => {
        const g = groups[made.names[block]];
        return selection.type !== undefined ? types[g.type] === selection.type : owners[g.owner]?.head === selection.owner;
      };
      let [pinned, gone, pages, flag] = [0, 0, 0, -1];
      for (const r of regions) {
        for (let page = r.start; page < r.start + r.size; page += 4096) {
          flag++;
          const on = new Map();
          for (let a = page; a < page + 4096; a++) {
            const byte = made.truth.get(a);
            const block = byte.block >= 0 ? byte.block : byte.by;
            if (byte.own && block >= 0) on.set(block, (on.get(block) ?? 0) + 1);
          }
          const f = made.column.pages[flag];
          const own = [...on].filter(([b]) => mine(b));
          if (!(f & 1) || own.length === 0) continue;
          pages++;
          for (const [, bytes] of own) pinned += 4096 / on.size - bytes;
          if (own.length === on.size && f & 2) gone += 4096;
        }
      }
      const found = heap.pages(selection);
      // A rest's bytes are its block's, of which this count knows nothing: compared where there is none.
      if (made.look.map.regions.some((r, i) => i > 0 && r.tiles > 0 && [...made.truth.values()].some((b) => b.kind === 'rest'))) continue;
      assert.ok(Math.abs(found.pinned - Math.max(0, pinned)) <= 1, `${found.pinned} ${pinned}`);
      assert.equal(found.gone, gone);
      assert.equal(found.pages, pages);
      assert.equal(found.blocks, made.names.filter((_, b) => mine(b)).length);
    }
  }
});

test('categories sum to the live bytes of each page', () => {
  for (const made of heaps(2)) {
    const heap = new Heap(made.look, made.column);
    const { list, of } = categoriesOf(heap, 'type');
    const width = list.length + 1;
    const sums = bytesByCategory(heap, of, width);
    for (let page = 0; page < heap.flags.length; page++) {
      const expected = new Array(width).fill(0);
      const base = heap.addressOf(page);
      for (let k = 0; k < 4096; k++) {
        const { block, away, kind } = made.truth.get(base + k);
        if (kind === 'rest') expected.skip = true;
        expected[away || block < 0 ? width - 1 : of[made.names[block]]]++;
      }
      if (expected.skip) continue;
      assert.deepEqual(Array.from(sums.subarray(page * width, (page + 1) * width)), expected);
    }
  }
});

test('what is damaged is said and opens as nothing', () => {
  const damages = [
    (m) => { m.column.pages = null; },
    (m) => { m.column.pages = m.column.pages.subarray(1); },
    (m) => { m.column.pools = m.column.pools.subarray(3); },
    (m) => { m.column.pools = m.column.pools.slice(1); },
    (m) => { m.column.live = m.column.live.slice(8); },
    (m) => { m.column.live = new Uint8Array([...m.column.live, 255, 255, 255, 255, 255, 255, 255, 255]); },
    (m) => { m.column.tiles = m.column.tiles.slice(0, -1); },
    (m) => { m.column.tiles = Uint8Array.from(m.column.tiles, (b, i) => i === 3 ? b | 15 : b); },
    (m) => { m.column.blocks = m.column.blocks.slice(1); },
    (m) => { m.column.blocks = m.column.blocks.map(() => 99); },
    (m) => { m.column.slack = Uint8Array.from([255]); },
    (m) => { m.column.slack = Uint8Array.from([255, 255, 255, 127, 1]); },
    (m) => { m.look.map.regions[0].start = 1; },
    (m) => { m.look.map.regions[0].size = 2 ** 60; },
    (m) => { m.look.map.regions[0].pools = 1e9; },
    (m) => { m.look.map.regions[1].tiles = -1; },
    (m) => { m.look.map.regions = null; },
    (m) => { m.look.map.groups[0].owner = 7; },
    (m) => { m.look.pool_size = 100; },
  ];
  for (const [i, damage] of damages.entries()) {
    const made = madeHeap(7);
    damage(made);
    const heap = new Heap(made.look, made.column);
    assert.equal(typeof heap.problem, 'string', `damage ${i}`);
    assert.equal(heap.sums().all.resident, 0);
    assert.equal(heap.blockAt(0x10000000), null);
  }
  const none = new Heap({ map: null, pool_size: 0, snapshot: {} }, {});
  assert.match(none.problem, /no map/);
});

test('who keeps a page is who has bytes on it', () => {
  let asked = 0;
  for (const made of heaps(2)) {
    const heap = new Heap(made.look, made.column);
    for (let page = 0; page < heap.flags.length; page++) {
      const base = heap.addressOf(page);
      const expected = new Map();
      for (let a = base; heap.resident(page) && a < base + 4096; a++) {
        // By another way than the one that is tested: byte by byte.
        const head = heap.nameOf(heap.blockAt(a)?.number ?? -1)?.head ?? null;
        if (head !== null) expected.set(head, (expected.get(head) ?? 0) + 1);
      }
      const kept = keepersOf(heap, page, page + 1);
      assert.deepEqual(new Map(kept.map((k) => [k.head, k.bytes])), expected);
      assert.ok(kept.every((k, i) => k.blocks > 0 && (i === 0 || kept[i - 1].bytes >= k.bytes)));
      asked += kept.length;
    }
  }
  assert.ok(asked > 100, `${asked} owners`);
});
