// Texts and numbers as they are shown.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { count, counted, duration, exact, moment, percent, shown, signed, size } from '../assets/text.js';

test('what would act on a page is escaped, and what piles up is cut', () => {
  assert.equal(shown('a\u001b[31m\nb\u009b\u202ec\u200b\0'), 'a\\u{1b}[31m\\u{a}b\\u{9b}\\u{202e}c\\u{200b}\\u{0}');
  assert.equal(shown('naïve 数据 🙂'), 'naïve 数据 🙂');
  assert.equal(shown('tag\u{e0041}\u034f\u3164'), 'tag\\u{e0041}\\u{34f}\\u{3164}');
  assert.equal(shown('<b>&amp;'), '<b>&amp;', 'markup is text');
  const piled = shown('e' + '\u0301'.repeat(400));
  assert.ok([...piled].length <= 5, piled);
});

test('a long text keeps its beginning and its end, in bounded time', () => {
  const long = 'app.cache.' + 'W'.repeat(1 << 20) + '.token[str]';
  const said = shown(long, 40);
  assert.ok([...said].length <= 40);
  assert.ok(said.startsWith('app.cache.') && said.endsWith('.token[str]') && said.includes('…'));
  for (let most = 2; most < 70; most++) assert.ok([...shown('🙂'.repeat(100), most)].length <= most);
  const start = performance.now();
  shown('\u202e'.repeat(1 << 20));
  assert.ok(performance.now() - start < 200);
});

test('sizes', () => {
  const MiB = 1 << 20;
  const cases = [[0, '0 B'], [789, '789 B'], [1023, '1,023 B'], [1024, '1.0 KiB'], [154_470_912, '147.3 MiB'], [MiB - 1, '1.0 MiB'], [1024 * MiB, '1024.0 MiB'], [99_999 * MiB, '99999.0 MiB'], [100_000 * MiB, '97.7 GiB'], [-3 * MiB, '−3.0 MiB'], [2 ** 60, '1048576.0 TiB']];
  for (const [bytes, said] of cases.slice(0, -1)) assert.equal(size(bytes), said);
  assert.equal(size(2 ** 64), '16384.0 PiB');
  assert.equal(size(NaN), '?');
  assert.equal(exact(154_470_912), '154,470,912 B');
  assert.equal(signed(3 * MiB), '+3.0 MiB');
  assert.equal(signed(-5, count), '−5');
  assert.equal(signed(0), '0 B');
  assert.equal(count(43206), '43,206');
  assert.equal(counted(1, 'copy', 'copies') + counted(2, 'copy', 'copies'), '1 copy2 copies');
});

test('shares say neither nothing of something nor all of less', () => {
  assert.equal(percent(0, 10), '0.0%');
  assert.equal(percent(1, 1e6), '<0.1%');
  assert.equal(percent(999_999, 1e6), '99.9%');
  assert.equal(percent(1e6, 1e6), '100.0%');
  assert.equal(percent(99.99999999999999, 100), '100.0%');
  assert.equal(percent(1, 0), '–');
});

test('times', () => {
  assert.deepEqual([0.25, 12.34, 185, 7380, 360_000, -3, NaN].map(duration), ['0.25 s', '12.3 s', '3 min 05 s', '2 h 03 min', '4 d 04 h', '−3.00 s', 'not known']);
  assert.equal(moment(1732287845.25), '2024-11-22 15:04:05 UTC');
  assert.equal(moment(1e300), 'not known');
});
