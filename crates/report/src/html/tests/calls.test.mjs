// A recording's calls, added up, and where their rectangles lie.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AMOUNTS, Calls, functionName, shortPath, sortOf } from '../assets/calls.js';
import { beside, icicle, rectAt, rectOf } from '../assets/icicle.js';
import { inkOn } from '../assets/flame.js';
import { random, varint } from './made.mjs';

// Columns as the report stores them: `rows` of [parent, function, line, peak, retained, allocated] in bytes.
function columns(functions, rows) {
  const [tree, own] = [[], []];
  rows.forEach(([parent, fn, line, ...bytes], i) => {
    for (const n of [i - parent, fn, line]) varint(tree, n);
    for (const b of bytes) {
      varint(own, b > 0 ? 1 : 0);
      varint(own, b);
    }
  });
  return { functions: new TextEncoder().encode(JSON.stringify(functions)), tree: Uint8Array.from(tree), own: Uint8Array.from(own) };
}

const FUNCTIONS = [['', '', 0], ['main', '/srv/app.py', 1], ['Cache.load', '/srv/cache.py', 40], ['decode', '/usr/lib/python3.13/json/decoder.py', 3]];
const ROWS = [[0, 0, 0, 5, 5, 10], [0, 1, 7, 0, 0, 100], [1, 2, 41, 300, 200, 400], [2, 3, 9, 50, 0, 60], [1, 2, 42, 7, 0, 8], [1, 3, 9, 11, 0, 12]];

function made(seed, n) {
  const next = random(seed);
  const rows = Array.from({ length: n }, (_, i) => {
    const parent = i === 0 ? 0 : Math.floor(next() < 0.3 ? i - 1 : next() * i);
    return [parent, Math.floor(next() * 4), Math.floor(next() * 50), ...[0, 0, 0].map(() => Math.floor(next() ** 4 * 100_000))];
  });
  return new Calls(columns(FUNCTIONS, rows));
}

test('totals are what a call and all that it called allocated', () => {
  const calls = new Calls(columns(FUNCTIONS, ROWS));
  assert.equal(calls.problem, null);
  assert.deepEqual([...calls.total.peak], [373, 368, 350, 50, 7, 11]);
  assert.equal(calls.total.retained[0], 205);
  assert.equal(calls.total.allocated[0], 590);
  assert.deepEqual([...calls.children(1)], [2, 4, 5]);
  assert.deepEqual(calls.stack(3), [0, 1, 2, 3]);
  assert.equal(calls.of(0).name, 'all calls');
  assert.equal(calls.lineOf(3), 9);
});

test('places sum to the whole, wherever they are called from', () => {
  const calls = new Calls(columns(FUNCTIONS, ROWS));
  const places = calls.places();
  assert.equal(places.find((p) => p.name === 'decode').bytes.peak, 61);
  assert.equal(places.find((p) => p.name === '(outside Python)').bytes.peak, 5);
  for (const a of AMOUNTS) assert.equal(places.reduce((n, p) => n + p.bytes[a], 0), calls.total[a][0]);
  const many = made(5, 3000);
  for (const a of AMOUNTS) assert.equal(many.places().reduce((n, p) => n + p.bytes[a], 0), many.total[a][0]);
});

test('what is sought is found by name and path, and its bytes are counted once', () => {
  const calls = new Calls(columns(FUNCTIONS, ROWS));
  assert.equal(calls.seek('  '), null);
  assert.deepEqual(calls.seek('cache LOAD'), [false, false, true, false]);
  assert.deepEqual(calls.heldBy(calls.seek('cache'), 'peak'), { bytes: 357, calls: 2 });
  // `decode` within `Cache.load` is counted with it.
  assert.deepEqual(calls.heldBy(calls.functions.map((f) => ['Cache.load', 'decode'].includes(f.name)), 'peak'), { bytes: 368, calls: 4 });
  assert.deepEqual(calls.heldBy(calls.seek('no such thing'), 'peak'), { bytes: 0, calls: 0 });
});

test('what is damaged is said to be, and empty', () => {
  const good = columns(FUNCTIONS, ROWS);
  for (const bad of [{ ...good, tree: null }, { ...good, own: good.own.subarray(3) }, { ...good, tree: good.tree.subarray(1) }, { ...good, functions: new TextEncoder().encode('{') }, { ...good, functions: new TextEncoder().encode('7') }]) {
    const calls = new Calls(bad);
    assert.notEqual(calls.problem, null);
    assert.equal(calls.count, 0);
    assert.equal(icicle(calls, 'peak', 0, 100, 10).rects.length, 0);
  }
  // A call that says it was called by none before it is the root's; one of no function has no name.
  const odd = new Calls(columns(FUNCTIONS, [[0, 0, 0, 1, 1, 1], [0, 99, 0, 1, 1, 1]].map((row, i) => (i === 1 ? [-7, ...row.slice(1)] : row))));
  assert.deepEqual([odd.parent[1], odd.of(1).name], [0, '?']);
});

test('paths and sorts are those of the text report', () => {
  assert.equal(shortPath('/v/lib/python3.13/site-packages/pandas/core/frame.py'), 'pandas/core/frame.py');
  assert.equal(shortPath('/usr/lib/python3.13/json/decoder.py'), 'json/decoder.py');
  assert.equal(shortPath('/srv/app.py'), '/srv/app.py');
  assert.equal(functionName({ name: '' }), '(outside Python)');
  const sorts = ['', '/srv/a.py', '/v/site-packages/a.py', '/usr/lib/python3.9/a.py', '<frozen importlib._bootstrap>', '<string>'];
  assert.deepEqual(sorts.map((file) => sortOf({ file })), ['outside', 'own', 'package', 'library', 'library', 'own']);
});

// Rectangles lie within their caller's, side by side, and each is as wide as its bytes.
function holds(calls, layout, amount, root, width, least = 1) {
  const scale = width / calls.total[amount][root];
  const at = new Map(layout.rects.filter((r) => r.call >= 0).map((r) => [r.call, r]));
  for (const rect of layout.rects) {
    assert.ok(Math.abs(rect.width - rect.bytes * scale) < 1e-6);
    if (rect.call >= 0) assert.equal(rect.bytes, calls.total[amount][rect.call]);
    if (rect.row > 0) {
      const above = at.get(rect.parent);
      assert.equal(above.row, rect.row - 1);
      assert.ok(rect.x >= above.x - 1e-6 && rect.x + rect.width <= above.x + above.width + 1e-6);
    }
    if (rect.row > 0) assert.ok(rect.width >= (rect.call < 0 ? least / 2 : least) - 1e-6);
  }
  for (const row of layout.byRow) for (let i = 1; i < row.length; i++) assert.ok(row[i].x >= row[i - 1].x + row[i - 1].width - 1e-6);
}

test('rectangles are as wide as their bytes, and narrow ones are one', () => {
  for (const seed of [1, 2, 3]) {
    const calls = made(seed, 4000);
    for (const amount of AMOUNTS) {
      for (const root of [0, 1, 17]) {
        if (!(calls.total[amount][root] > 0)) continue;
        const layout = icicle(calls, amount, root, 900, 40);
        holds(calls, layout, amount, root, 900);
        // Without those that are too narrow, nothing is left out: what is below a call sums to no more than it.
        const drawn = layout.rects.filter((r) => r.row === 1).reduce((n, r) => n + r.bytes, 0);
        assert.ok(drawn + calls.own[amount][root] <= calls.total[amount][root]);
        const counted = layout.rects.filter((r) => r.row === 1).reduce((n, r) => n + r.count, 0);
        assert.ok(counted <= calls.children(root).length);
      }
    }
  }
});

test('what lies deeper than the rows says so', () => {
  const calls = new Calls(columns(FUNCTIONS, ROWS));
  const layout = icicle(calls, 'peak', 0, 400, 2);
  assert.deepEqual(layout.rects.map((r) => [r.call, r.deeper]), [[0, false], [1, true]]);
  assert.ok(icicle(calls, 'peak', 0, 400, 9).rects.every((r) => !r.deeper));
  // Without anything of an amount there is nothing to draw.
  assert.equal(icicle(calls, 'retained', 4, 400, 9).rects.length, 0);
});

test('places are found, and keys lead from one to the next', () => {
  const calls = made(9, 2000);
  const layout = icicle(calls, 'peak', 0, 700, 30);
  for (const rect of layout.rects) assert.equal(rectAt(layout, rect.x + rect.width / 2, rect.row), rect);
  assert.equal(rectAt(layout, -1, 0), null);
  assert.equal(rectAt(layout, 10, 99), null);
  let at = layout.rects[0];
  for (const key of ['ArrowDown', 'ArrowDown', 'ArrowRight', 'ArrowLeft', 'ArrowUp']) {
    const next = beside(layout, at, key);
    assert.ok(layout.rects.includes(next));
    at = next;
  }
  assert.equal(at.row, 1);
  assert.equal(beside(layout, at, 'Home'), layout.rects[0]);
  assert.equal(beside(layout, layout.rects[0], 'ArrowUp'), layout.rects[0]);
  for (let call = 0; call < 200; call++) {
    const rect = rectOf(layout, calls, call);
    assert.ok(rect === null || rect.call === call || rect.call === -1);
  }
});

test('200,000 calls, thousands deep, are a picture of a few thousand rectangles', () => {
  const rows = Array.from({ length: 200_000 }, (_, i) => [i === 0 ? 0 : i <= 5000 ? i - 1 : 5000 - i % 100, i % 4, i, 1 + i % 977, 1, 1]);
  const began = Date.now();
  const calls = new Calls(columns(FUNCTIONS, rows));
  assert.equal(calls.depth[5000], 5000);
  for (const [root, depth] of [[0, 60], [4990, 60], [0, 6000]]) {
    const layout = icicle(calls, 'peak', root, 1200, depth);
    assert.ok(layout.rects.length < 1300 * depth && layout.rects.length > 0);
  }
  assert.ok(calls.places().length > 100_000);
  calls.heldBy(calls.seek('cache'), 'allocated');
  assert.ok(Date.now() - began < 20_000);
});

test('a label is read on its colour', () => {
  assert.equal(inkOn('rgb(255 255 255)'), '#000');
  assert.equal(inkOn('rgb(10 20 90)'), '#fff');
});
