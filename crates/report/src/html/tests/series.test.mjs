// The scale of a run's picture, and which sample is meant.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { byteTicks, inUse, nearest, thinned, timeTicks } from '../assets/series.js';

test('scales hold all that they are for, in few steps', () => {
  for (const most of [0, 1, 1024, 5000, 177_659_904, 2 ** 40]) {
    const { top, step } = byteTicks(most);
    assert.ok(top >= most && top / step <= 5 && top % step === 0, `${most}`);
  }
  for (const seconds of [0, 0.01, 6.47, 3600, 1e7]) {
    const ticks = timeTicks(seconds);
    assert.ok(ticks.length >= 1 && ticks.length <= 8 && ticks.at(-1) <= seconds, `${seconds}: ${ticks}`);
  }
});

test('the nearest sample is', () => {
  const samples = [0, 1, 2, 10].map((at) => ({ at }));
  assert.deepEqual([-5, 0.4, 0.6, 5.9, 6.1, 99].map((at) => nearest(samples, at)), [0, 0, 1, 2, 3, 3]);
  assert.equal(nearest([{ at: 3 }], 9), 0);
});

test('thinning keeps the highest and the lowest', () => {
  const samples = Array.from({ length: 100_000 }, (_, i) => ({ at: i, rss: 1000 + i % 7, free: 0 }));
  samples[51_234] = { at: 51_234, rss: 9999, free: 0 };
  samples[77_777] = { at: 77_777, rss: 1003, free: 1000 };
  const kept = thinned(samples, 200);
  assert.ok(kept.length <= 4 * 201 && kept.length > 200);
  assert.ok(kept.some((s) => s.rss === 9999) && kept.some((s) => inUse(s) === 3));
  assert.equal(kept[0], samples[0]);
  assert.equal(kept.at(-1), samples.at(-1));
  assert.equal(thinned(samples.slice(0, 50), 200).length, 50);
});
