// What the reader looks at, and its form in the location's hash.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { State } from '../assets/state.js';

test('a hash leads back to the same view, whatever a name contains', () => {
  const state = new State();
  const owner = 'a=b&c#%\u202e<img> -> "x"';
  state.set({ owner, rung: 'purge', 'sort.types': '-count', 'find.pins_owner': 'app cache', theme: 'dark' });
  const again = new State('#' + state.hash());
  assert.deepEqual(again.fields, state.fields);
  assert.equal(again.get('owner'), owner);
  assert.equal(new State().hash(), '');
});

test('what is not ours is passed over', () => {
  const state = new State('#owner=%zz&__proto__=x&constructor=y&sort.Types=a&toString=1&rung=trim&' + 'type=' + 'x'.repeat(5000));
  assert.equal(state.get('owner'), '');
  assert.equal(state.get('type'), '');
  assert.equal(state.get('rung'), 'trim');
  assert.equal(state.hash(), 'rung=trim');
});

test('who listens hears of what changed, once, and no more when unsubscribed', () => {
  const state = new State();
  const heard = [];
  const listener = (_, changed) => heard.push(changed);
  state.subscribe(listener);
  state.set({ owner: 'a', rung: 'now' });
  state.set({ owner: 'a' });
  state.read('');
  state.unsubscribe(listener);
  state.set({ owner: 'b' });
  assert.deepEqual(heard, [['owner'], ['owner']]);
});

test('reading a hash clears what it does not name', () => {
  const state = new State('#sort.types=-count&owner=a');
  state.read('#type=b');
  assert.equal(state.hash(), 'type=b');
});
