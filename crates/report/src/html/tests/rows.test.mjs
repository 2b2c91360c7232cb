// Rows sorted, filtered, summed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { filteredRows, orderOf, relation, sortedRows, sumOf } from '../assets/rows.js';

const name = { key: 'name', kind: 'text', of: (r) => r.name };
const size = { key: 'size', kind: 'bytes', of: (r) => r.size };
const rows = [{ name: 'b2', size: 5 }, { name: 'b10', size: null }, { name: 'A', size: 0 }, { name: 'c', size: 5 }, { name: 'd' }];

test('what is not known stands last either way, equal rows keep their order', () => {
  const names = (descending, by = size) => sortedRows(rows, by, descending).map((r) => r.name);
  assert.deepEqual(names(true), ['b2', 'c', 'A', 'b10', 'd']);
  assert.deepEqual(names(false), ['A', 'b2', 'c', 'b10', 'd']);
  assert.deepEqual(names(false, name), ['A', 'b2', 'b10', 'c', 'd'], 'numbers in names count');
  assert.deepEqual(rows.map((r) => r.name), ['b2', 'b10', 'A', 'c', 'd'], 'the rows are left as they were');
});

test('a filter wants all words, in text columns only', () => {
  const found = (needle) => filteredRows(rows, [name, size], needle).map((r) => r.name);
  assert.deepEqual(found('B 1'), ['b10']);
  assert.deepEqual(found('  '), rows.map((r) => r.name));
  assert.deepEqual(found('5'), []);
});

test('sums leave out what is not known, and say nothing of nothing', () => {
  assert.equal(sumOf(rows, size), 10);
  assert.equal(sumOf([{ size: null }, {}], size), null);
  assert.equal(sumOf([], size), null);
  assert.deepEqual(relation(7, 10), { left: 3, over: 0 });
  assert.deepEqual(relation(12, 10), { left: 0, over: 2 });
});

test('an order that no column has is the first one', () => {
  const order = (text, first = '-size') => orderOf(text, [name, size], first);
  assert.deepEqual(order('name'), { column: name, descending: false });
  assert.deepEqual(order('-no such'), { column: size, descending: true });
  assert.equal(order('', ''), null);
});
