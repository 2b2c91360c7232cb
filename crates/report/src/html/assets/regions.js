// The table twin of the map: its regions, with the bytes of each.
import { make } from './make.js';
import { Grid } from './grid.js';
import { sumOfPages } from './rungs.js';
import { shown } from './text.js';

// So many regions are listed; a heap of more says so.
const MOST_REGIONS = 1000;

export function regionRows(heap) {
  const view = heap.accounts.view('now');
  return Array.from({ length: heap.regions.count }, (_, r) => {
    const s = sumOfPages(view, heap.regions.page[r], heap.regions.page[r + 1]);
    return {
      heap: heap.heaps[heap.regions.heap[r]].name, address: heap.regions.start[r], bytes: heap.regions.size[r], resident: s.resident,
      live: s.live + s.slack, free: s.hole + s.free + s.cached + s.top + s.virgin, pinned: s.pinned,
    };
  });
}

// A collapsed table, made when it is opened.
export function regionsTable(heap, state, index) {
  const details = make('details', { class: 'hm-regions' }, make('summary', { text: `The map as a table: ${heap.regions.count} ${heap.regions.count === 1 ? 'region' : 'regions'}` }));
  details.addEventListener('toggle', () => {
    if (!details.open || details.childElementCount > 1) return;
    const all = regionRows(heap).sort((a, b) => b.resident - a.resident);
    const rows = all.slice(0, MOST_REGIONS);
    const column = (key, label = key) => ({ key, label, kind: 'bytes', of: (r) => r[key], sum: true });
    const cut = all.length > rows.length ? `The ${rows.length} with most resident bytes of ${all.length}.` : '';
    const grid = new Grid({
      id: 'regions' + 'abcdefghij'.charAt(index % 10), title: 'Regions', level: 4, rows, sort: '-resident', about: cut ? make('p', { class: 'about', text: cut }) : null,
      columns: [{ key: 'heap', label: 'heap', kind: 'text', of: (r) => shown(r.heap, 80) }, { key: 'address', label: 'address', kind: 'plain', of: (r) => r.address, show: (r) => make('code', { text: '0x' + r.address.toString(16) }) },
        column('bytes', 'address space'), column('resident'), column('live'), column('free', 'free or virgin'), column('pinned', 'pinned')],
    }, state);
    details.append(grid.element);
  });
  return details;
}
