// What is seen first: which process, the verdict with its number, who pins most, the remedies, and what is not known.
import { count, counted, duration, exact, moment, percent, signed, size } from './text.js';
import { numberOf, whyNoObjects } from './facts.js';
import { ROOTS, VERDICTS } from './glossary.js';
import { absent, alien, bytes, command, lead, make, part, term } from './make.js';

// Remedies that are shown.
const MOST_REMEDIES = 30;

// Which process was looked at, in a list of short facts.
export function processFacts(snapshot) {
  const { process, memory } = snapshot;
  const python = process.python;
  const said = [['pid', String(process.pid)]];
  if (python) {
    const words = [`${python.version}${python.free_threaded ? ', free-threaded' : ''}`];
    if (python.debug_hooks) words.push('debug hooks on: live contains what they add');
    if (python.tracemalloc) words.push('tracemalloc on');
    if (python.interpreters !== null && python.interpreters !== 1) words.push(counted(python.interpreters, 'interpreter'));
    said.push(['Python', words.join(', ')], ['allocator', python.allocator === 'unknown' ? 'not known' : python.allocator]);
    if (python.foreign_hook) said.push(['allocator hook on top', python.foreign_hook]);
  } else {
    said.push(['Python', 'not recognised']);
  }
  if (process.libc) said.push(['C library', `${process.libc.name} ${process.libc.version ?? '(version not known)'}`]);
  said.push(['threads', count(process.threads)], ['taken', moment(snapshot.taken_at)], ['by', snapshot.tool]);
  return { said, memory };
}

function factList(pairs) {
  return make('dl', { class: 'facts' }, pairs.map(([name, value]) => make('div', {}, make('dt', { text: name }), make('dd', {}, value instanceof Node ? value : alien(value)))));
}

// The head of the page: the process, or the two looks, or the tree.
export function pageHead(facts) {
  const [first] = facts.looks;
  if (facts.kind === 'diff') {
    const diff = facts.diff;
    const sides = ['before', 'after'].map((name, i) => {
      const python = diff.pythons[i] ? `, Python ${diff.pythons[i]}` : '';
      return [name, make('span', {}, `pid ${diff.pids[i]}`, alien(python), ' ', alien(diff.commands[i]))];
    });
    const between = duration(diff.seconds) + (diff.seconds < 0 ? ': the first look is the later one' : '');
    return [make('h1', { text: 'Two looks' }), factList([...sides, ['between', between]])];
  }
  if (facts.kind === 'tree') {
    const tree = facts.tree;
    return [make('h1', { text: `Process ${tree.pid} and its descendants` }), factList([
      ['processes', count(tree.members.length)], ['PSS', size(tree.pss)], ['RSS', `${size(tree.rss)}, counts a shared OS page in each process`],
      ['taken', moment(tree.taken_at)], ['by', tree.tool]])];
  }
  if (!first) return [make('h1', { text: 'pydefrag' })];
  return [make('h1', {}, alien(first.snapshot.process.command || `process ${first.snapshot.process.pid}`, '', 240)), factList(processFacts(first.snapshot).said)];
}

// What stands above all else: why the look is partial, what two looks do not share, who is missing.
export function warnings(facts, snapshot) {
  const said = [];
  const warn = (title, text, hint) => said.push(make('div', { class: 'warning', role: 'note' }, make('b', { text: title + ' ' }), alien(text, '', 600), hint ? make('p', {}, 'hint: ', command(hint)) : null));
  if (snapshot?.partial) warn('Partial:', snapshot.partial.reason, snapshot.partial.hint);
  for (const why of facts.diff?.unlike ?? []) warn('Unlike:', why);
  const torn = snapshot?.torn;
  if (torn && (torn.left > 0 || torn.arenas_gone > 0 || torn.chunks > 0)) {
    const parts = [];
    if (torn.left > 0) parts.push(`${count(torn.left)} of ${counted(torn.pools, 'pool')} stayed inconsistent`);
    if (torn.arenas_gone > 0) parts.push(`${counted(torn.arenas_gone, 'arena')} went away`);
    if (torn.chunks > 0) parts.push(`at ${counted(torn.chunks, 'place')} malloc’s chunks could not be followed`);
    warn('Read in motion:', parts.join(', ') + '.');
  }
  return said;
}

export function notesOf(facts, snapshot) {
  return [...(facts.diff?.notes ?? []), ...(snapshot?.notes ?? [])];
}

// The verdict: sentence, number, who pins first, remedies.
export function verdictPart(facts, look, verdict, state) {
  const snapshot = look?.snapshot;
  const left = make('div', { class: 'judged' });
  if (verdict) {
    const [name, meaning] = VERDICTS[verdict.kind] ?? [verdict.kind, null];
    const number = numberOf(verdict.sentence);
    left.append(make('p', { class: 'kind k-' + (VERDICTS[verdict.kind] ? verdict.kind : 'other'), }, make('span', { class: 'dot', 'aria-hidden': 'true' }), meaning === null ? alien(name) : term(name, name, meaning)));
    if (number) left.append(make('p', { class: 'big' }, make('b', { text: number.number }), number.rest ? ' ' + number.rest : ''));
    left.append(make('p', { class: 'sentence' }, alien(verdict.sentence, '', 480)));
    if (verdict.undecided) left.append(make('p', { class: 'undecided' }, make('b', { text: 'Not decided yet: ' }), alien(verdict.undecided, '', 300)));
  } else {
    const why = facts.kind === 'tree' ? 'A tree as a whole has no verdict. Those of its members, where they have one, are in the table below.'
      : facts.kind === 'diff' ? 'No verdict: what differs here did not grow in one process, or is not known.'
        : snapshot?.partial ? 'No verdict: only what the kernel’s maps tell is known.' : 'No verdict.';
    left.append(make('p', { class: 'kind k-other' }, make('span', { class: 'dot', 'aria-hidden': 'true' }), 'no verdict'), make('p', { class: 'sentence', text: why }));
  }
  const aside = make('div', { class: 'cards' }, facts.kind === 'tree' ? null : pinCard(facts, look, state), facts.kind === 'tree' ? treeCard(facts.tree, state) : memoryCard(facts, snapshot, state));
  const section = part('verdict', facts.kind === 'tree' ? 'All together' : 'Verdict', make('div', { class: 'first' }, left, aside));
  if (verdict?.remedies.length > 0) section.append(remedies(verdict, state));
  return section;
}

function card(title, ...children) {
  return make('div', { class: 'card' }, make('h3', {}, title), ...children);
}

function memoryCard(facts, snapshot, state) {
  if (facts.kind === 'diff') {
    const { rss, heaps } = facts.diff;
    const rows = [[term('RSS'), rss], ...(heaps ? [[term('live'), heaps.live], [term('external fragmentation'), heaps.external]] : [])];
    return card('Change', make('p', { class: 'large' }, signed(rss.after - rss.before)), make('dl', { class: 'pairs' }, rows.map(([word, c]) => [make('dt', {}, word), make('dd', {}, bytes(c.before, state), ' → ', bytes(c.after, state))])));
  }
  const m = snapshot.memory;
  const f = snapshot.fragmentation;
  const rows = [[term('PSS'), bytes(m.pss, state)], [term('swap'), bytes(m.swap, state)]];
  if (m.hwm > 0) rows.push([term('VmHWM'), bytes(m.hwm, state)]);
  rows.push([term('fragmentation'), f ? `${f.percent < 0.05 && f.percent > 0 ? '<0.1' : f.percent.toFixed(1)}% of ${size(f.resident)}` : 'not known']);
  if (f) rows.push([term('external fragmentation'), bytes(f.external, state)], [term('rounding', 'internal fragmentation'), f.internal === null ? 'not known of all heaps' : bytes(f.internal, state)]);
  return card(term('RSS', 'Resident (RSS)'), make('p', { class: 'large' }, bytes(m.rss, state)), make('dl', { class: 'pairs' }, rows.map(([word, value]) => [make('dt', {}, word), make('dd', {}, value)])));
}

function treeCard(tree, state) {
  const alone = tree.members.reduce((sum, m) => sum + m.alone, 0);
  return card(term('PSS', 'Together (PSS)'), make('p', { class: 'large' }, bytes(tree.pss, state)), make('dl', { class: 'pairs' },
    make('dt', {}, term('RSS', 'RSS, summed')), make('dd', {}, bytes(tree.rss, state)), make('dt', {}, term('alone')), make('dd', {}, bytes(alone, state)),
    make('dt', { text: 'not looked at' }), make('dd', { text: counted(tree.missing.length, 'process', 'processes') })));
}

// Who pins most, and what would come back: the answer that most readers come for.
function pinCard(facts, look, state) {
  const snapshot = look.snapshot;
  const title = [term('pin', 'Pins the most memory'), facts.kind === 'diff' ? ` (${look.title})` : ''];
  if (!snapshot.pins) return card(title, absent(whyNoObjects(snapshot, facts.kind)));
  const first = [...snapshot.pins.by_owner].sort((a, b) => b.pinned - a.pinned)[0];
  if (!first || first.pinned === 0) return card(title, absent('No OS page is partly free: no live block pins anything.'));
  const light = make('button', { type: 'button', class: 'action noprint', on: { click: () => { state.set({ owner: first.head }); lead(look.map ? 'map' : 'pins'); } } }, look.map ? 'Light it up on the map' : 'See it among all that pin');
  const all = make('button', { type: 'button', class: 'quiet noprint', on: { click: () => { state.set({ by: 'owner', section: 'pins' }); lead('pins'); } } }, 'All owners that pin');
  return make('div', { class: 'card strong', id: 'first-pin' }, make('h3', {}, title),
    make('p', { class: 'who' }, alien(first.owner, first.head)),
    make('p', { class: 'root' }, `${ROOTS[first.root]?.[1] ?? 'not known'}: ${counted(first.count, 'block')} of ${size(first.bytes)}`),
    make('dl', { class: 'pairs wide' },
      make('dt', {}, term('pinned', 'pins')), make('dd', {}, make('b', {}, bytes(first.pinned, state)), ` ${percent(first.pinned, snapshot.pins.pinned)} of all that is pinned`),
      make('dt', {}, term('gone', 'comes back if gone')), make('dd', {}, make('b', {}, bytes(first.gone, state)))),
    make('p', { class: 'actions' }, light, all));
}

function remedies(verdict, state) {
  const most = verdict.remedies.reduce((n, r) => Math.max(n, r.bytes ?? 0), 1);
  const rows = verdict.remedies.slice(0, MOST_REMEDIES).map((r) => {
    const bar = make('span', { class: 'inbar', 'aria-hidden': 'true' }, make('span', { class: 'fill c-back' }));
    bar.firstChild.style.width = 100 * (r.bytes ?? 0) / most + '%';
    const amount = r.bytes === null ? make('span', { class: 'none', text: 'not measured' }) : make('span', { title: exact(r.bytes) }, 'up to ', bytes(r.bytes, state));
    return make('li', {}, make('div', { class: 'remedy' }, make('span', { class: 'name' }, alien(r.name)), make('span', { class: 'amount' }, amount, r.bytes === null ? null : bar), command(r.command)));
  });
  return make('div', { class: 'remedies' }, make('h3', { text: 'What helps, most first' }), make('ol', {}, rows), verdict.remedies.length > MOST_REMEDIES ? absent(`${count(verdict.remedies.length - MOST_REMEDIES)} more: see --json.`) : null);
}
