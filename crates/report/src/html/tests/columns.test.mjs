// Columns, and the colours of the style.
import test from 'node:test';
import assert from 'node:assert/strict';
import { decodedBase64, varints } from '../assets/columns.js';
import { distance } from './colour.mjs';
import { random, varint } from './made.mjs';

test('base64 is decoded, and what is none refused', () => {
  const next = random(3);
  for (let length = 0; length < 60; length++) {
    const bytes = Uint8Array.from({ length }, () => Math.floor(next() * 256));
    const text = btoa(String.fromCharCode(...bytes));
    assert.deepEqual(decodedBase64(text), bytes);
  }
  for (const wrong of ['A', 'AAA', 'AA=A', 'AA A', 'A===', '<b>=', 'ÄÄÄÄ']) assert.equal(decodedBase64(wrong), null, wrong);
});

test('varints are read, cut and overlong ones refused', () => {
  const numbers = [0, 1, 127, 128, 300, 2 ** 31, 2 ** 40 + 5, Number.MAX_SAFE_INTEGER];
  const bytes = [];
  for (const n of numbers) varint(bytes, n);
  assert.deepEqual([...varints(Uint8Array.from(bytes))], numbers);
  assert.equal(varints(Uint8Array.from([128])), null);
  assert.equal(varints(Uint8Array.from(new Array(12).fill(255).concat(1))), null);
});

// The palettes of `style.css` and `schemes.js`; a browser that cannot read files leaves this to node.
test('colours are told apart by eyes of all kinds', async (t) => {
  if (typeof process === 'undefined') return t.skip?.('needs files');
  const { readFileSync } = await import('node:fs');
  const read = (name) => readFileSync(new URL(`../assets/${name}`, import.meta.url), 'utf8');
  const style = read('style.css');
  const terms = ['live', 'slack', 'metadata', 'virgin', 'free', 'hole', 'pinned', 'top', 'cached', 'unread'];
  const found = terms.map((n) => [...style.matchAll(new RegExp(`--c-${n}: (#[0-9a-f]{6})`, 'g'))].map((m) => m[1]));
  assert.ok(found.every((f) => f.length >= 3), 'light, dark and chosen dark');
  assert.deepEqual(found.map((f) => f[1]), found.map((f) => f[2]));
  const some = ['light', 'dark'].map((theme) => read('schemes.js').match(new RegExp(`^  ${theme}: \\[(.*)\\],$`, 'm'))[1].match(/#[0-9a-f]{6}/g));
  for (const palette of [found.map((f) => f[0]), found.map((f) => f[1]), ...some]) {
    assert.ok(palette.length >= 10);
    for (let i = 0; i < palette.length; i++) for (let j = 0; j < i; j++) assert.ok(distance(palette[i], palette[j]) > 0.07, `${palette[i]} ${palette[j]}`);
  }
});
