// What follows from a snapshot's numbers: of the samples that the report's own tests keep, and of ones made here.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { GLOSSARY } from '../assets/glossary.js';
import { ACCOUNT_TERMS, freeOf, headOf, headsOf, ladderRungs, liveOf, numberOf, slackBytes, typeOf, waterfall, whyNoObjects } from '../assets/facts.js';

function kept(name) {
  const path = new URL(`../../snapshots/pydefrag_report__json__tests__${name}.snap`, import.meta.url);
  return JSON.parse(readFileSync(path, 'utf8').split('\n---\n')[1]);
}

const full = kept('json-full');
const partial = kept('json-partial');

// Every step but totals is taken off; each total is what is left.
function checked(snapshot) {
  const { steps } = waterfall(snapshot);
  let left = snapshot.memory.rss;
  for (const step of steps) {
    if (!step.total) left -= step.bytes;
    assert.equal(step.total ? step.bytes : step.from, left, step.name);
  }
  return Object.fromEntries(steps.map((s) => [s.name, s.bytes]));
}

test('the steps lead from RSS to live data without losing a byte', () => {
  const steps = checked(full);
  const walked = full.owners.filter((o) => 'live' in o);
  const sum = (of) => walked.reduce((n, o) => n + (of(o) ?? 0), 0);
  assert.equal(steps.RSS, full.memory.rss);
  assert.equal(steps['walked heaps'], sum((o) => o.resident));
  assert.equal(steps.holes, sum((o) => o.holes));
  assert.equal(steps['without an owner'], full.unattributed);
  assert.equal(steps.live, sum((o) => o.live), 'live without what was rounded up');
  assert.equal(steps['live data'], sum((o) => o.live) - slackBytes(full));
  assert.ok(waterfall(full).notes.some((n) => n.includes('malloc main arena')), 'where rounding is null');
});

test('every step and rung is a word of the glossary', () => {
  const words = [...waterfall(full).steps.map((s) => s.word), ...waterfall(partial).steps.map((s) => s.word), ...ACCOUNT_TERMS.map((t) => t[1]), ...ladderRungs(full).map((r) => r.rung)];
  for (const word of words) assert.ok(Object.hasOwn(GLOSSARY, word), word);
});

test('a partial look has no steps inside heaps, and says so', () => {
  const steps = checked(partial);
  assert.ok(!('live' in steps));
  assert.match(waterfall(partial).notes.join(), /No heap of this process was walked/);
});

test('memory that changed while it was read is a step of its own', () => {
  const drifted = structuredClone(full);
  drifted.memory.rss += 4096;
  const before = checked(full)['changed while read'] ?? 0;
  assert.equal(checked(drifted)['changed while read'], before + 4096);
});

test('slack that is not resident is not taken off', () => {
  const odd = structuredClone(full);
  odd.slack.dict.bytes = odd.memory.rss * 2;
  const steps = checked(odd);
  assert.ok(!('container slack' in steps) && steps['live data'] > 0);
  assert.match(waterfall(odd).notes.join(), /not resident/);
});

test('live and free of an owner are those of its account', () => {
  const [pymalloc] = full.owners;
  assert.equal(liveOf(pymalloc), pymalloc.live + pymalloc.rounding);
  assert.equal(freeOf(pymalloc), pymalloc.resident - liveOf(pymalloc) - pymalloc.metadata - pymalloc.virgin - pymalloc.unread);
  const other = full.owners.find((o) => !('live' in o));
  assert.equal(liveOf(other), null);
  assert.equal(freeOf(other), null);
});

test('each rung says what it adds, an unknown one nothing', () => {
  const l = full.ladder;
  assert.deepEqual(ladderRungs(full).map((r) => r.more), [l.trim, l.purge - l.trim, l.compact - l.purge, l.ideal - l.compact]);
  const gap = ladderRungs({ ladder: { trim: 1, purge: 3, compact: null, ideal: 10 } });
  assert.deepEqual(gap.map((r) => [r.bytes, r.more]), [[1, 1], [3, 2], [null, null], [10, 7]]);
});

test('the number of a verdict is the sentence’s own', () => {
  assert.deepEqual(numberOf(full.verdict.sentence), { number: '179.5 MiB', rest: 'of 378.5 MiB' });
  assert.deepEqual(numberOf('Growing: live data rose from 50.6 to 134.5 MiB: a leak.'), { number: '134.5 MiB', rest: 'from 50.6 MiB' });
  assert.deepEqual(numberOf('Retained: 156.9 MiB are free at the end.'), { number: '156.9 MiB', rest: '' });
  assert.deepEqual(numberOf('Healthy: <0.1 of 3.0 MiB in its heaps are free.'), { number: '<0.1 MiB', rest: 'of 3.0 MiB' });
  assert.equal(numberOf('No verdict.'), null);
});

test('a chain belongs to the longest head that it begins with, and to no other', () => {
  const heads = new Map(['app', 'app.X', 'app.XY', 'lib.so', 'static data of a.so'].map((h) => [h + '[dict]', h]));
  heads.set('m.f[function] -> .__code__[code]', 'm.f.__code__');
  assert.equal(headOf('m.f[function] -> .__code__[code]', heads), 'm.f.__code__');
  assert.equal(headOf('app.X[dict] -> str', heads), 'app.X');
  assert.equal(headOf('app.XYZ[dict]', heads), null, 'app.XYZ is another');
  assert.equal(headOf('lib.so (native)', heads), 'lib.so');
  assert.equal(headOf('other', heads), null);
  for (const both of [['local x', 'local x of f'], ['local x of f', 'local x']]) assert.equal(headOf('local x of f[dict] -> str', new Map(both.map((h) => [h, h]))), 'local x of f');
  assert.equal(typeOf('dict (keys)'), 'dict');
  assert.equal(typeOf('app.Row'), 'app.Row');
  assert.deepEqual([...headsOf({ snapshot: { pins: { by_owner: [{ owner: 'a[dict]', head: 'a' }] } }, map: { owners: [{ owner: 'b', head: 'b' }, { owner: '', head: '' }] } }).values()], ['b', 'a']);
});

test('why objects are missing is told', () => {
  assert.equal(whyNoObjects({ objects: {} }, 'snapshot'), '');
  assert.match(whyNoObjects(partial, 'snapshot'), /partial/);
  assert.match(whyNoObjects({ process: { python: { allocator: 'mimalloc' } } }, 'snapshot'), /mimalloc/);
  assert.match(whyNoObjects({ process: { python: null } }, 'tree'), /tree/);
  assert.match(whyNoObjects({ process: { python: null } }, 'snapshot'), /no-objects/);
});
