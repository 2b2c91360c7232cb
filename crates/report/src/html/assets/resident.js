// Where each resident byte is: the way from RSS down to live data, the ladder, and the account of each owner.
import { exact, percent, size } from './text.js';
import { freeOf, isWalked, ladderRungs, liveOf, waterfall } from './facts.js';
import { BASES, KINDS } from './glossary.js';
import { alien, bytes, command, lead, make, part, term } from './make.js';
import { Grid } from './grid.js';

// The waterfall: a table whose bars are the picture.
export function waterfallPart(look, state) {
  const { steps, notes } = waterfall(look.snapshot);
  const rss = look.snapshot.memory.rss;
  const rows = steps.map((step) => {
    const bar = make('span', { class: 'fill c-' + step.colour });
    bar.style.left = 100 * Math.max(step.from, 0) / (rss || 1) + '%';
    bar.style.width = 100 * Math.max(step.bytes, 0) / (rss || 1) + '%';
    return make('tr', { class: step.total ? 'total' : null, 'data-step': step.name },
      make('th', { scope: 'row' }, step.total ? null : make('span', { class: 'sign', 'aria-label': 'less ' }, '−'), term(step.word, step.name)),
      make('td', { class: 'picture' }, make('span', { class: 'fall', 'aria-hidden': 'true' }, bar)),
      make('td', { class: 'number' }, bytes(step.bytes, state)),
      make('td', { class: 'number quietly exact', text: exact(step.bytes) }),
      make('td', { class: 'number quietly', text: percent(step.bytes, rss) }));
  });
  const head = make('tr', {}, make('th', { scope: 'col', text: 'step' }), make('th', { scope: 'col', class: 'picture' }, make('span', { class: 'visually-hidden', text: 'picture' })), make('th', { scope: 'col', class: 'number', text: 'bytes' }), make('th', { scope: 'col', class: 'number exact', text: 'exactly' }), make('th', { scope: 'col', class: 'number', text: 'of RSS' }));
  const table = make('table', { class: 'waterfall', 'aria-label': 'From RSS down to live data, step by step' }, make('thead', {}, head), make('tbody', {}, rows));
  return part('waterfall', 'From RSS to live data', make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'From RSS down to live data' }, table), notes.map((n) => make('p', { class: 'relation' }, alien(n, '', 600))));
}

// The ladder: what comes back at each rung. A click on one shows it on the map.
export function ladderPart(look, state) {
  const rungs = ladderRungs(look.snapshot);
  const most = Math.max(...rungs.map((r) => r.bytes ?? 0), 1);
  if (rungs.every((r) => r.bytes === null)) return part('ladder', 'What would come back', make('p', { class: 'absent', text: 'Not known: no heap of this process was walked.' }));
  const buttons = [];
  const row = (r) => {
    const known = r.rung === 'now' || r.bytes !== null;
    const button = make('button', { type: 'button', class: 'pick', 'aria-pressed': 'false', disabled: !known, on: { click: () => choose(r.rung) } }, r.rung);
    buttons.push([r.rung, button]);
    const below = make('span', { class: 'fill c-back faint', hidden: true });
    const more = make('span', { class: 'fill c-back', hidden: true });
    if (r.bytes > 0) {
      below.hidden = r.more === r.bytes;
      more.hidden = r.more === 0;
      const start = 100 * (r.bytes - r.more) / most;
      below.style.width = start + '%';
      more.style.left = start + '%';
      more.style.width = 100 * r.more / most + '%';
    }
    const amount = r.rung === 'now' ? '' : known ? bytes(r.bytes, state) : make('span', { class: 'none', text: 'not known' });
    const added = r.rung === 'now' || !known ? '' : make('span', { title: exact(r.more), text: '+' + size(r.more) });
    return make('tr', { 'data-rung': r.rung }, make('th', { scope: 'row' }, button, r.rung === 'now' ? null : term(r.rung, '?')),
      make('td', { class: 'picture' }, make('span', { class: 'fall', 'aria-hidden': 'true' }, below, more)),
      make('td', { class: 'number' }, amount), make('td', { class: 'number quietly' }, added),
      make('td', { class: 'does' }, make('span', { text: r.does }), r.command ? command(r.command) : r.how ? make('span', { class: 'how', text: r.how }) : null));
  };
  const choose = (rung) => {
    state.set({ rung: state.get('rung') === rung ? 'now' : rung });
    if (look.map && state.get('rung') !== 'now') lead('map');
  };
  const now = { rung: 'now', bytes: undefined, does: 'the heap as it is' };
  const body = make('tbody', {}, [now, ...rungs].map(row));
  const head = make('tr', {}, ['rung', 'picture', 'comes back', 'more than below', 'what it takes'].map((t, i) => make('th', { scope: 'col', class: i === 2 || i === 3 ? 'number' : i === 1 ? 'picture' : null }, i === 1 ? make('span', { class: 'visually-hidden', text: t }) : t)));
  const mark = () => {
    for (const [rung, button] of buttons) {
      const is = state.get('rung') === rung;
      button.setAttribute('aria-pressed', String(is));
      button.closest('tr').classList.toggle('selected', is);
    }
  };
  const section = part('ladder', 'What would come back', make('p', { class: 'about' }, 'The ', term('ladder'), ', rung by rung', look.map ? '. A rung that is chosen is shown on the map as it would leave the heap.' : '.'),
    make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'The ladder' }, make('table', { class: 'ladder', 'aria-label': 'What would come back at each rung' }, make('thead', {}, head), body)));
  mark();
  state.subscribe((_, changed) => section.isConnected && changed.includes('rung') && mark());
  return section;
}

// The account: every owner of resident bytes with its terms.
export function ownersPart(look, state) {
  const snapshot = look.snapshot;
  const term4 = (field) => (o) => (isWalked(o) ? o[field] : null);
  const sums = { kind: 'bytes', sum: true };
  const some = (of) => snapshot.owners.some((o) => of(o) > 0);
  const columns = [
    { key: 'name', label: 'owner', kind: 'text', of: (o) => o.name },
    { key: 'resident', label: 'resident', word: 'resident', ...sums, of: (o) => o.resident, bar: 'rss' },
    { key: 'percent', label: 'of RSS', kind: 'percent', quiet: true, sum: true, of: (o) => 100 * o.resident / (snapshot.memory.rss || 1) },
    { key: 'pss', label: 'PSS', word: 'PSS', ...sums, of: (o) => o.pss },
    { key: 'live', label: 'live', word: 'live', ...sums, of: liveOf },
    { key: 'free', label: 'free', word: 'fragmentation', ...sums, of: freeOf },
    { key: 'free_spans', label: 'free pools', word: 'free pools', ...sums, of: term4('free_spans') },
    { key: 'holes', label: 'holes', word: 'hole', ...sums, of: term4('holes') },
    { key: 'pinned_free', label: 'pinned free', word: 'pinned free', ...sums, of: term4('pinned_free') },
    { key: 'top', label: 'top', word: 'top', ...sums, of: term4('top') },
    { key: 'cached', label: 'cached', word: 'cached', ...sums, of: term4('cached') },
    { key: 'virgin', label: 'virgin', word: 'virgin', ...sums, of: term4('virgin') },
    { key: 'metadata', label: 'metadata', word: 'metadata', ...sums, of: term4('metadata') },
    { key: 'rounding', label: 'rounding (in live)', word: 'rounding', ...sums, of: (o) => (isWalked(o) ? o.rounding : null) },
    ...(some((o) => o.unread) ? [{ key: 'unread', label: 'unread', word: 'unread', ...sums, of: term4('unread') }] : []),
    ...(some((o) => o.live_not_resident) ? [{ key: 'live_not_resident', label: 'live, not resident', word: 'live not resident', ...sums, of: term4('live_not_resident') }] : []),
    ...(some((o) => o.swapped) ? [{ key: 'swapped', label: 'swapped', word: 'swap', ...sums, of: (o) => o.swapped }] : []),
    ...(some((o) => o.huge) ? [{ key: 'huge', label: 'on huge pages', ...sums, of: (o) => o.huge }] : []),
    ...(some((o) => o.copy_on_write_shared) ? [{ key: 'copy_on_write_shared', label: 'shared by copy-on-write', word: 'still shared', ...sums, of: (o) => o.copy_on_write_shared }] : []),
    { key: 'kind', label: 'kind', kind: 'text', slim: true, quiet: true, of: (o) => KINDS[o.kind] ?? o.kind },
    { key: 'basis', label: 'known by', word: 'basis', kind: 'text', slim: true, quiet: true, of: (o) => BASES[o.basis] ?? o.basis },
  ];
  const grid = new Grid({
    id: 'owners', title: 'Owners of resident bytes', level: 3, rows: snapshot.owners, columns, sort: '-resident', limit: 14, empty: 'No owner is known.',
    about: make('p', { class: 'about' }, 'The ', term('account'), ': what is free is free pools, holes, pinned free, top and cached; live contains rounding.'),
    whole: { key: 'resident', bytes: snapshot.memory.rss, name: 'RSS', rest: snapshot.unattributed > 0 ? 'has no owner, or changed while it was read' : 'changed while it was read', over: 'for memory changed while it was read' },
  }, state);
  const rows = [];
  const m = snapshot.memory;
  for (const [name, n] of [['transparent huge pages', m.anon_huge_pages], ['merged by KSM', m.ksm], ['given back lazily, not yet taken', m.lazy_free], ['hugetlb, beside RSS', m.hugetlb], ['swapped out, beside RSS', m.swap], ['residency differs by', snapshot.residency_difference]]) {
    if (n > 0) rows.push(make('li', {}, name + ': ', bytes(n, state)));
  }
  return part('owners', 'The account', grid.element, rows.length > 0 ? make('ul', { class: 'asides' }, rows) : null);
}
