// What is said of a block.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lineOf } from '../assets/mapcard.js';

const heap = { slackOf: () => 0 };
const at = (name) => ({ address: 64, returned: false, block: { number: 0, address: 64, size: 48 }, name });

test('what a file says of a block is harmless in the line on it', () => {
  assert.equal(lineOf(heap, at({ type: 'list', role: 'item_buffer' })), 'list (item buffer), 48 B, at 0x40');
  assert.equal(lineOf(heap, at({ type: 'a\u202eb', role: 'c\u202ed' })), 'a\\u{202e}b (c\\u{202e}d), 48 B, at 0x40');
});
