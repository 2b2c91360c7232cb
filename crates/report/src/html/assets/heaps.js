// The allocators from inside: pymalloc's size classes and what its free space can serve, malloc's arenas.
import { count, counted, percent, size } from './text.js';
import { absent, make, part, term } from './make.js';
import { Grid, listed } from './grid.js';

export function allocatorsPart(look, state) {
  const { pymalloc, malloc, partial } = look.snapshot;
  const section = part('heaps', 'Allocators');
  if (pymalloc) section.append(...ofPymalloc(pymalloc, state));
  else section.append(absent(partial ? 'pymalloc: not read, for this look is partial.' : 'pymalloc: it does not serve this process, or was not walked.'));
  if (malloc) section.append(...ofMalloc(malloc, state));
  else section.append(absent(partial ? 'malloc: not read, for this look is partial.' : 'malloc: it was not walked.'));
  return section;
}

function ofPymalloc(pymalloc, state) {
  const fits = new Map(pymalloc.fit.map((f) => [f.request, f]));
  const rows = pymalloc.classes.map((c) => ({ ...c, fit: fits.get(c.size) }));
  // Requests that no class with pools serves, and those above all classes.
  const others = pymalloc.fit.filter((f) => !pymalloc.classes.some((c) => c.size === f.request));
  const classes = new Grid({
    id: 'classes', title: 'pymalloc’s size classes', rows, sort: 'size', limit: 12, empty: 'No pool is in use.', columns: [
      { key: 'size', label: 'block of', word: 'size class', kind: 'plain', left: true, of: (c) => c.size, show: (c) => make('span', { text: c.size + ' B' }) },
      { key: 'pools', label: 'pools', word: 'pool', kind: 'count', sum: true, of: (c) => c.pools },
      { key: 'used_blocks', label: 'live blocks', word: 'live', kind: 'count', sum: true, of: (c) => c.used_blocks },
      { key: 'free_blocks', label: 'free blocks', kind: 'count', sum: true, of: (c) => c.free_blocks },
      { key: 'used', label: 'live', kind: 'bytes', sum: true, of: (c) => c.used_blocks * c.size, bar: 'live' },
      { key: 'free', label: 'free', kind: 'bytes', sum: true, of: (c) => c.free_blocks * c.size, bar: 'pinned_free' },
      { key: 'occupied', label: 'live of these pools', kind: 'percent', quiet: true, of: (c) => 100 * c.used_blocks / (c.used_blocks + c.free_blocks || 1) },
      { key: 'usable', label: 'free for it', word: 'fit', kind: 'bytes', of: (c) => c.fit?.usable ?? null },
      { key: 'unusable', label: 'of no use to it', word: 'fit', kind: 'percent', quiet: true, of: (c) => c.fit?.unusable_percent ?? null },
    ],
  }, state);
  const above = others.map((f) => `${f.usable > 0 ? size(f.usable) : 'none'} for ${f.request === null ? 'more than 512 B' : f.request + ' B'}`);
  const about = make('p', { class: 'about' }, `pymalloc: ${count(pymalloc.arenas)} `, term('arena', 'arenas'), ` of ${size(pymalloc.arena_size)}; ${count(pymalloc.free_pools)} `, term('free pools'),
    ` and ${counted(pymalloc.uncarved_pools, 'pool')} never carved, ${pymalloc.parked_pools > 0 ? `${counted(pymalloc.parked_pools, 'pool')} parked, ` : ''}of ${size(pymalloc.pool_size)}. Longest stretch of free bytes: ${size(pymalloc.largest_free_run)}. Free in all, resident or not: ${size(pymalloc.free_bytes)}`,
    above.length > 0 ? `; of it is of use: ${above.join(', ')}.` : '.');
  const parts = [about, classes.element];
  if (pymalloc.interpreters.length > 1) {
    parts.push(new Grid({
      id: 'interpreters', title: 'pymalloc of each interpreter', rows: pymalloc.interpreters, sort: 'id', columns: [
        { key: 'id', label: 'interpreter', kind: 'plain', left: true, of: (i) => i.id },
        { key: 'arenas', label: 'arenas', word: 'arena', kind: 'count', sum: true, of: (i) => i.arenas },
        { key: 'pools', label: 'pools in use', kind: 'count', sum: true, of: (i) => i.classes.reduce((n, c) => n + c.pools, 0) },
        { key: 'free_pools', label: 'free pools', word: 'free pools', kind: 'count', sum: true, of: (i) => i.free_pools },
        { key: 'uncarved_pools', label: 'never carved', word: 'virgin', kind: 'count', sum: true, of: (i) => i.uncarved_pools },
        { key: 'live', label: 'live', word: 'live', kind: 'bytes', sum: true, of: (i) => i.classes.reduce((n, c) => n + c.used_blocks * c.size, 0), bar: 'live' },
      ],
    }, state).element);
  }
  return parts;
}

function ofMalloc(malloc, state) {
  const bytes = { kind: 'bytes', sum: true };
  const threads = (a) => (a.threads.length > 0 ? listed(a.threads.map((t) => `${t.name} (${t.tid})`), 4) : a.main ? 'none now' : 'no thread uses it now');
  const name = (a) => (a.main ? 'main arena' : 'arena at 0x' + Number(a.address).toString(16));
  const arenas = new Grid({
    id: 'arenas', title: 'malloc’s arenas', rows: malloc.arenas, sort: '-free', limit: 16, empty: 'malloc has no arena.', columns: [
      { key: 'name', label: 'arena', word: 'arena', kind: 'text', of: name },
      { key: 'system', label: 'from the system', ...bytes, of: (a) => a.system },
      { key: 'resident', label: 'resident', word: 'resident', ...bytes, of: (a) => a.resident, bar: 'rss' },
      { key: 'used', label: 'used', word: 'live', ...bytes, of: (a) => a.used, bar: 'live' },
      { key: 'free', label: 'free', ...bytes, of: (a) => a.free, bar: 'pinned_free' },
      { key: 'top', label: 'of it top', word: 'top', ...bytes, of: (a) => a.top },
      { key: 'fastbins', label: 'of it in fastbins', word: 'cached', ...bytes, of: (a) => a.fastbins },
      { key: 'tcache', label: 'in tcaches', word: 'cached', ...bytes, of: (a) => a.tcache },
      { key: 'overhead', label: 'overhead', word: 'metadata', ...bytes, of: (a) => a.overhead },
      ...(malloc.arenas.some((a) => a.unread > 0) ? [{ key: 'unread', label: 'unread', word: 'unread', ...bytes, of: (a) => a.unread }] : []),
      { key: 'largest_free', label: 'largest free chunk', kind: 'bytes', of: (a) => a.largest_free },
      { key: 'used_chunks', label: 'chunks in use', kind: 'count', sum: true, of: (a) => a.used_chunks },
      { key: 'free_chunks', label: 'free chunks', kind: 'count', sum: true, of: (a) => a.free_chunks },
      { key: 'heaps', label: 'stretches', kind: 'count', quiet: true, of: (a) => a.heaps },
      { key: 'threads', label: 'threads that use it', kind: 'text', of: threads },
    ], note: 'Counts address space, resident or not: used, overhead, tcaches, free and unread are what it has from the system.',
  }, state);
  const { chunks, bytes: mapped } = malloc.mmapped;
  const system = malloc.arenas.reduce((n, a) => n + a.system, 0);
  const free = malloc.arenas.reduce((n, a) => n + a.free + a.tcache, 0);
  return [make('p', { class: 'about' }, `malloc: ${counted(malloc.arenas.length, 'arena')} of ${size(system)}, of which ${size(free)} are free (${percent(free, system)}); ${counted(chunks, 'chunk')} of ${size(mapped)} with a mapping of their own.`), arenas.element];
}
