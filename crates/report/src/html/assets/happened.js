// What happened beside allocations: collections with their ends, marks, memory that was mapped. Free of the page.

// The collections of a recording, in seconds: `from`, `to`, `generation`, `collected`; `to` is null of one without an end.
export function collections(happenings) {
  const all = [];
  let open = null;
  const close = (to, stop) => all.push({ from: open?.from ?? to, to, generation: stop?.generation ?? open.generation, collected: stop?.collected ?? null });
  for (const { at_ns: at, what } of happenings) {
    if (what.gc_start) {
      if (open) close(null, null);
      open = { from: at / 1e9, generation: what.gc_start.generation };
    } else if (what.gc_stop) {
      close(at / 1e9, what.gc_stop);
      open = null;
    }
  }
  if (open) close(null, null);
  return all;
}

// What is told one by one: `at` in seconds, `name`, `text` (a mark's, which is the program's), `bytes` or null, and
// `call` or null.
export function told(happenings) {
  const rows = [];
  for (const { at_ns: ns, what } of happenings) {
    const add = (name, more) => rows.push({ at: ns / 1e9, name, text: '', bytes: null, call: null, ...more });
    if (what.mark) add('mark', { text: what.mark.text });
    else if (what.forked) add('fork', { text: `pid ${what.forked.child}` });
    else if (what.mapped) add('mapped', { bytes: what.mapped.bytes, call: what.mapped.call });
    else if (what.unmapped) add('unmapped', { bytes: what.unmapped.bytes });
    else if (what.arena_born) add('arena born', { bytes: what.arena_born.bytes });
    else if (what.arena_died) add('arena died', { bytes: what.arena_died.bytes });
  }
  return rows;
}

// Moments in seconds, in order of time: `at`, `live`, `blocks`, `rss` (null: not known).
export function moments(timeline) {
  return timeline.map((m) => ({ at: m.at_ns / 1e9, live: m.live.bytes, blocks: m.live.count, rss: m.rss ?? null })).sort((a, b) => a.at - b.at);
}

// The stretches of moments in which a value is known.
export function stretches(all, of) {
  const found = [];
  let open = false;
  for (const m of all) {
    if (of(m) === null) {
      open = false;
      continue;
    }
    if (open) found.at(-1).push(m);
    else found.push([m]);
    open = true;
  }
  return found;
}
