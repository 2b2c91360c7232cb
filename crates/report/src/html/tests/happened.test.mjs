// What happened beside allocations, and moments.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collections, moments, stretches, told } from '../assets/happened.js';
import { highest } from '../assets/moments.js';

const at = (seconds, what) => ({ at_ns: seconds * 1e9, what });

test('collections have their ends, as far as they were recorded', () => {
  const stop = (generation, collected) => ({ gc_stop: { generation, collected, uncollectable: 0 } });
  const found = collections([
    at(1, stop(0, 3)), at(2, { gc_start: { generation: 1 } }), at(2.5, { mark: { text: 'x' } }), at(3, stop(1, 7)),
    at(4, { gc_start: { generation: 0 } }), at(5, { gc_start: { generation: 2 } }),
  ]);
  assert.deepEqual(found, [
    { from: 1, to: 1, generation: 0, collected: 3 }, { from: 2, to: 3, generation: 1, collected: 7 },
    { from: 4, to: null, generation: 0, collected: null }, { from: 5, to: null, generation: 2, collected: null },
  ]);
  assert.deepEqual(collections([]), []);
});

test('all else is told one by one', () => {
  const rows = told([at(1, { mark: { text: 'here' } }), at(2, { forked: { child: 7 } }), at(3, { mapped: { address: 1, bytes: 5, call: 2 } }), at(4, { unmapped: { address: 1, bytes: 5 } }), at(5, { arena_born: { address: 1, bytes: 9 } }), at(6, { gc_start: { generation: 0 } }), at(7, { something_new: {} })]);
  assert.deepEqual(rows.map((r) => [r.at, r.name, r.text, r.bytes, r.call]), [[1, 'mark', 'here', null, null], [2, 'fork', 'pid 7', null, null], [3, 'mapped', '', 5, 2], [4, 'unmapped', '', 5, null], [5, 'arena born', '', 9, null]]);
});

test('moments are in order, and RSS is drawn where it is known', () => {
  const all = moments([{ at_ns: 2e9, live: { count: 2, bytes: 20 }, rss: 5 }, { at_ns: 1e9, live: { count: 1, bytes: 10 }, rss: null }, { at_ns: 3e9, live: { count: 3, bytes: 30 }, rss: 6 }, { at_ns: 4e9, live: { count: 3, bytes: 30 }, rss: null }, { at_ns: 5e9, live: { count: 3, bytes: 30 }, rss: 7 }]);
  assert.deepEqual(all.map((m) => m.at), [1, 2, 3, 4, 5]);
  assert.deepEqual(stretches(all, (m) => m.rss).map((s) => s.map((m) => m.rss)), [[5, 6], [7]]);
});

test('of many moments the highest stay', () => {
  const all = Array.from({ length: 50_000 }, (_, i) => ({ at: i, live: i % 13 }));
  all[31_234].live = 999;
  const kept = highest(all, (m) => m.live, 300);
  assert.ok(kept.length <= 302 && kept.some((m) => m.live === 999));
  assert.equal(kept.at(-1), all.at(-1));
  assert.equal(highest(all.slice(0, 9), (m) => m.live, 300).length, 9);
});
