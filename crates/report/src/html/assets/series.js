// A program over time: the scale of its picture, and which sample is meant. Free of the page.

export function inUse(sample) {
  return Math.max(sample.rss - sample.free, 0);
}

// Round steps up to `most` at least: { top, step }, for bytes in powers of two.
export function byteTicks(most, wanted = 4) {
  let step = 1024;
  while (most / step > wanted) step *= 2;
  return { top: Math.max(Math.ceil(most / step), 1) * step, step };
}

// Round steps of seconds.
export function timeTicks(seconds, wanted = 6) {
  const steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400, 604800];
  const step = steps.find((s) => seconds / s <= wanted) ?? Math.ceil(seconds / wanted / 86400) * 86400;
  const ticks = [];
  for (let i = 0; i * step <= seconds && i < 100; i++) ticks.push(i * step);
  return ticks;
}

// Index of the sample nearest to a time, of samples in order of time.
export function nearest(samples, at) {
  let low = 0;
  let high = samples.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (samples[middle].at < at) low = middle + 1;
    else high = middle;
  }
  return low > 0 && at - samples[low - 1].at < samples[low].at - at ? low - 1 : low;
}

// Samples that a picture of so many columns needs: of each column the first, the last, and those with most and least.
export function thinned(samples, columns) {
  if (samples.length <= 4 * columns) return samples;
  const first = samples[0].at;
  const span = samples.at(-1).at - first || 1;
  const kept = new Set();
  let column = -1;
  let group = [];
  const flush = () => {
    if (group.length === 0) return;
    const by = (of) => group.reduce((best, s) => (of(s) > of(best) ? s : best));
    for (const s of [group[0], group.at(-1), by((s) => s.rss), by((s) => -inUse(s))]) kept.add(s);
    group = [];
  };
  for (const s of samples) {
    const at = Math.floor((s.at - first) / span * columns);
    if (at !== column) flush();
    column = at;
    group.push(s);
  }
  flush();
  return samples.filter((s) => kept.has(s));
}
