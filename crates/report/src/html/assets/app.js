// The page: reads the data and puts the parts in their places.
import { shown } from './text.js';
import { State } from './state.js';
import { island } from './columns.js';
import { Heap } from './heap.js';
import { MapView } from './map.js';

const facts = JSON.parse(document.getElementById('facts').textContent);
const state = new State(location.hash);
state.subscribe(() => history.replaceState(null, '', '#' + state.hash()));
const page = document.getElementById('page');
page.textContent = '';
for (const [i, look] of facts.looks.entries()) {
  const columns = {};
  for (const name of ['pages', 'tiles', 'blocks', 'slack', 'pools', 'live']) columns[name] = await island(`look${i}-${name}`);
  const heap = new Heap(look, columns);
  const place = document.createElement('div');
  page.append(place);
  new MapView(place, heap, state);
  place.append(shown(look.title));
}
