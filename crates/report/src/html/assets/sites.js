// The tables of a recording: the lines that allocated, and what happened.
import { counted, duration } from './text.js';
import { AMOUNTS, functionName, shortPath } from './calls.js';
import { told } from './happened.js';
import { AMOUNT_NAMES } from './flame.js';
import { absent, alien, make, part } from './make.js';
import { Grid } from './grid.js';

const BARS = { peak: 'live', retained: 'free_spans', allocated: 'native' };

// What each line allocated itself. `every`: mean of the bytes between two samples; 0 where everything was recorded.
export function placesPart(calls, totals, every, state) {
  const section = part('places', 'Lines that allocated', make('p', { class: 'about' }, 'Each line with what it allocated itself, without what it called, wherever it was called from.', every > 0 ? ' All numbers are estimates: ± is one standard error at most, of what was live at the peak.' : ''));
  if (calls.problem !== null || calls.count === 0) {
    section.append(absent('None.'));
    return section;
  }
  const rows = calls.places();
  const bytesOf = (amount) => ({ key: amount, label: AMOUNT_NAMES[amount], kind: 'bytes', sum: true, bar: BARS[amount], of: (row) => row.bytes[amount] });
  section.append(new Grid({
    id: 'places', title: 'By line', rows, sort: '-peak', limit: 15, whole: { key: 'peak', bytes: totals.peak, name: 'All that was live at the peak' }, columns: [
      { key: 'name', label: 'function', kind: 'text', of: (row) => row.name },
      { key: 'where', label: 'where', kind: 'text', of: (row) => row.file + (row.file !== '' && row.line > 0 ? ':' + row.line : '') },
      bytesOf('peak'), ...(every > 0 ? [{ key: 'error', label: '±', kind: 'bytes', quiet: true, of: (row) => Math.sqrt(row.bytes.peak * every) }] : []),
      ...AMOUNTS.slice(1).map(bytesOf),
      { key: 'blocks', label: 'allocations', kind: 'count', sum: true, of: (row) => row.blocks.allocated },
      { key: 'average', label: 'bytes each', kind: 'count', quiet: true, of: (row) => (row.blocks.allocated > 0 ? row.bytes.allocated / row.blocks.allocated : null) },
      { key: 'kept', label: 'blocks retained', kind: 'count', quiet: true, sum: true, of: (row) => row.blocks.retained },
    ],
  }, state).element);
  return section;
}

// Marks, forks, memory mapped, arenas.
export function happenedPart(facts, calls, state) {
  const left = facts.happenings_left_out;
  // Arenas are many, and say least: they come last.
  const all = told(facts.happenings);
  const arena = (row) => row.name.startsWith('arena ');
  const section = part('happened', 'What happened');
  section.append(new Grid({
    id: 'happened', title: 'Beside allocations and collections', rows: [...all.filter((row) => !arena(row)), ...all.filter(arena)], sort: '', limit: 10, empty: 'Nothing.', note: left > 0 ? `${counted(left, 'event')} more are not in this file.` : null, columns: [
      { key: 'what', label: 'what', kind: 'text', slim: true, of: (row) => row.name },
      { key: 'at', label: 'at', kind: 'plain', left: true, of: (row) => row.at, show: (row) => make('span', { text: duration(row.at) }) },
      { key: 'bytes', label: 'bytes', kind: 'bytes', of: (row) => row.bytes },
      { key: 'text', label: 'text', kind: 'text', wide: true, of: (row) => row.text },
      { key: 'from', label: 'from', kind: 'text', wide: true, of: (row) => (row.call !== null && row.call < calls.count ? `${functionName(calls.of(row.call))} ${shortPath(calls.of(row.call).file)}` : '') },
    ],
  }, state).element);
  return section;
}

// Threads, where there are several.
export function threadsPart(facts, state) {
  if (facts.threads.length < 2) return null;
  return part('threads', 'Threads', new Grid({
    id: 'threads', title: 'What each allocated', rows: facts.threads, sort: '-bytes', limit: 10, columns: [
      { key: 'tid', label: 'thread', kind: 'plain', left: true, of: (t) => t.tid },
      { key: 'bytes', label: 'allocated', kind: 'bytes', sum: true, bar: 'native', of: (t) => t.allocated.bytes },
      { key: 'blocks', label: 'allocations', kind: 'count', sum: true, of: (t) => t.allocated.count },
    ],
  }, state).element);
}

export function saidPart(notes) {
  return part('notes', 'Notes', notes.length > 0 ? make('ul', { class: 'notes' }, notes.slice(0, 200).map((n) => make('li', {}, alien(n, '', 600)))) : absent('None.'));
}
