// Pixels against what they stand for: a window of a made heap is painted and read back.
import test from 'node:test';
import assert from 'node:assert/strict';
import { Heap } from '../assets/heap.js';
import { Folding } from '../assets/folding.js';
import { Painter } from '../assets/paint.js';
import { TERMS } from '../assets/terms.js';
import { WIDTH } from '../assets/account.js';
import { madeHeap } from './made.mjs';

const GROUND = 0xffffffff;

// A scheme whose colours are the terms' numbers, and an image of its window.
function painted(heap, folding) {
  const view = heap.accounts.view('now');
  const colours = Uint32Array.from({ length: WIDTH + 1 }, (_, i) => 1000 + i);
  const scheme = { view, back: view.back, width: WIDTH, bytes: view.terms, colours, marks: colours, patterns: new Array(WIDTH + 1).fill(0), ground: GROUND, ofRun: (t) => t, absent: (p) => (view.flags[p] & 4 ? WIDTH - 2 : WIDTH - 1) };
  const image = { words: new Uint32Array(folding.width * Math.ceil(folding.height)), width: folding.width, height: Math.ceil(folding.height) };
  new Painter(heap).paint(image, folding, scheme, null, 1, GROUND);
  return image;
}

test('close by, each pixel is the byte that the folding says', () => {
  for (const seed of [1, 2, 3, 4]) {
    const made = madeHeap(seed);
    const heap = new Heap(made.look, made.column);
    const folding = new Folding(heap.heaps, { width: 640, height: 400 });
    let seen = 0;
    for (let k = 0; k < 12; k++) {
      // So that a byte is eight pixels wide, and columns never share bytes.
      folding.zoom = 8 * folding.bytesPerRow / folding.width;
      folding.x = Math.floor(k * folding.bytesPerRow / 12);
      folding.y = 90 * k;
      folding.clamp();
      folding.x = Math.floor(folding.x);
      const image = painted(heap, folding);
      for (let y = 0; y < image.height; y += 5) {
        for (let x = 3; x < image.width; x += 8) {
          const word = image.words[y * image.width + x];
          const at = folding.byteAt(x + 0.5, y + 0.5);
          if (!at || word === GROUND) continue;
          const { term, away } = made.truth.get(heap.addressOf(at.page) + at.offset);
          assert.equal(TERMS[word - 1000].key, away ?? term);
          seen++;
        }
      }
    }
    assert.ok(seen > 5000);
  }
});

test('no line is drawn but where something begins', () => {
  const made = madeHeap(5);
  const heap = new Heap(made.look, made.column);
  const folding = new Folding(heap.heaps, { width: 640, height: 400 });
  folding.zoom = 8 * folding.bytesPerRow / folding.width;
  for (let k = 0; k < 20; k++) {
    folding.x = Math.floor(k * folding.bytesPerRow / 20);
    folding.y = 50 * k;
    folding.clamp();
    folding.x = Math.floor(folding.x);
    const image = painted(heap, folding);
    for (const { heap: h, row, y } of folding.visible()) {
      const middle = Math.round(y + folding.rowHeight / 2);
      if (middle < 0 || middle >= image.height) continue;
      for (let x = 0; x < image.width; x++) {
        const at = folding.byteAt(x + 0.5, middle + 0.5);
        if (!at || image.words[middle * image.width + x] !== GROUND) continue;
        const address = heap.addressOf(at.page) + at.offset;
        const [here, before] = [made.truth.get(address), made.truth.get(address - 1)];
        assert.ok(x % 8 === 0 && (at.offset === 0 || here.block !== before?.block || here.term !== before?.term), `heap ${h} row ${row} x ${x}`);
      }
    }
  }
});

test('far off, the pixels are the shares of the terms', () => {
  const made = madeHeap(6, { arenas: 30, mallocs: 10 });
  const heap = new Heap(made.look, made.column);
  const folding = new Folding(heap.heaps, { width: 300, height: 500, bytesPerRow: 2 ** 21 });
  const image = painted(heap, folding);
  const counted = new Map();
  for (const word of image.words) if (word !== GROUND) counted.set(word, (counted.get(word) ?? 0) + 1);
  const pixels = [...counted.values()].reduce((a, b) => a + b, 0);
  const sums = heap.sums().all;
  const whole = heap.flags.length * 4096;
  for (const [i, { key }] of TERMS.entries()) assert.ok(Math.abs((counted.get(1000 + i) ?? 0) / pixels - sums[key] / whole) < 0.03, key);
});

test('places and bytes are each other’s inverse', () => {
  const made = madeHeap(8, { arenas: 8, mallocs: 8 });
  const heap = new Heap(made.look, made.column);
  const folding = new Folding(heap.heaps, { width: 500, height: 300 });
  for (const zoom of [1, 3, 40, 500]) {
    folding.zoom = zoom;
    for (let page = 0; page < heap.flags.length; page += 7) {
      folding.clamp();
      folding.reveal(page, 100);
      const at = folding.place(page, 100);
      assert.ok(at.x >= 0 && at.x <= folding.width && at.y >= -folding.rowHeight && at.y <= folding.height);
      const found = folding.byteAt(at.x + 1e-6, at.y + 1);
      assert.ok(found && Math.abs((found.page - page) * 4096 + found.offset - 100) <= 1);
    }
  }
});

test('zooming keeps the byte under the pointer', () => {
  const made = madeHeap(9, { arenas: 8, mallocs: 8 });
  const heap = new Heap(made.look, made.column);
  const folding = new Folding(heap.heaps, { width: 500, height: 300 });
  const before = folding.byteAt(250, 150) ?? folding.byteAt(250, 140);
  for (let i = 0; i < 5; i++) folding.zoomAt(1.7, 250, folding.place(before.page, before.offset).y + 1);
  const after = folding.byteAt(250, folding.place(before.page, before.offset).y + 1);
  assert.ok(Math.abs((after.page - before.page) * 4096 + after.offset - before.offset) <= folding.bytesPerPixel + 1);
});

test('many heaps and one region and nothing resident are folded', () => {
  for (const count of [0, 1, 70]) {
    const folding = new Folding(Array.from({ length: count }, (_, i) => ({ page: i, pages: 1 })), { width: 300, height: 300 });
    assert.ok(folding.rowHeight > 0 && Number.isFinite(folding.contentHeight()));
    assert.equal([...folding.visible()].length <= count, true);
  }
});
