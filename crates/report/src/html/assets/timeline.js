// A run over time: RSS and what is in use, as a picture and as a table, and the processes that it started.
import { count, counted, duration, exact, size } from './text.js';
import { byteTicks, inUse, nearest, thinned, timeTicks } from './series.js';
import { alien, draw, make, part, term } from './make.js';
import { Grid } from './grid.js';

const HEIGHT = 260;
const MARGIN = { left: 74, right: 16, top: 26, bottom: 28 };

export function runPart(look, state) {
  const { run, memory } = look.snapshot;
  if (!run) return null;
  const ended = run.ended === 'unknown' ? 'its exit code is not known' : 'code' in run.ended ? `exit code ${run.ended.code}` : `ended by signal ${run.ended.signal}`;
  const account = run.account_at_end ? 'the account is of its end' : 'no account of its end';
  const note = run.account_note ? make('span', {}, '; ', alien(run.account_note, '', 600)) : null;
  const about = make('p', { class: 'about' }, `${duration(run.seconds)}, ${ended}; ${counted(run.samples.length, 'sample')}; ${account}`, note, '.');
  const at = (s) => `${size(s.rss)} at ${duration(s.at)}`;
  const ratio = Number.isFinite(run.trough_ratio) ? run.trough_ratio.toFixed(2) : '?';
  const waste = Number.isFinite(run.waste) ? run.waste.toFixed(2) : '?';
  const measures = make('dl', { class: 'measures' }, [
    [term('peak'), at(run.peak), `in use ${size(inUse(run.peak))}`], [term('VmHWM'), memory.hwm > 0 ? size(memory.hwm) : 'not known', 'the kernel’s'],
    [term('trough'), at(run.trough), `in use ${size(inUse(run.trough))}`], [term('trough ratio'), ratio, '1 follows use'], [term('waste'), waste + ' GB·s', 'free, and resident'],
  ].map(([word, value, more]) => make('div', {}, make('dt', {}, word), make('dd', {}, make('b', { text: value }), make('span', { class: 'quietly', text: ' ' + more })))));
  const section = part('run', 'Over time', about, measures);
  if (run.samples.length > 1) section.append(new Timeline(run, memory.hwm).element);
  else section.append(make('p', { class: 'absent', text: 'Too few samples for a curve.' }));
  section.append(samplesGrid(run, state).element, childrenGrid(run, state).element);
  return section;
}

class Timeline {
  constructor(run, hwm) {
    this.run = run;
    this.hwm = hwm;
    this.samples = run.samples;
    this.said = make('output', { class: 'reading', 'aria-hidden': 'true' });
    this.range = make('input', { type: 'range', class: 'noprint', min: '0', max: String(this.samples.length - 1), step: '1', value: String(nearest(this.samples, run.peak.at)), 'aria-label': 'Sample of the run' });
    this.range.addEventListener('input', () => this.point(Number(this.range.value)));
    this.place = make('div', { class: 'chart' });
    this.legend = make('p', { class: 'legend' }, key('rss', term('RSS')), key('used', term('in use')), key('wasted', term('waste', 'free, and resident')), hwm > 0 ? key('hwm', term('VmHWM')) : null);
    this.element = make('figure', { class: 'timeline' }, this.legend, this.place, make('div', { class: 'scrub' }, this.range, this.said));
    this.width = 0;
    new ResizeObserver(() => this.resize()).observe(this.place);
    // On paper the page is as wide as the paper.
    addEventListener('beforeprint', () => this.redraw(680));
    addEventListener('afterprint', () => this.redraw(this.place.clientWidth));
  }

  resize() {
    const width = Math.floor(this.place.clientWidth);
    if (width > 0 && width !== this.width) this.redraw(width);
  }

  redraw(width) {
    this.width = width;
    const { run, samples } = this;
    const first = Math.min(0, samples[0].at);
    const last = Math.max(samples.at(-1).at, run.end.at, run.seconds) || 1;
    const most = samples.reduce((n, s) => Math.max(n, s.rss), Math.max(run.peak.rss, this.hwm));
    const { top, step } = byteTicks(most);
    const inner = { width: Math.max(width - MARGIN.left - MARGIN.right, 40), height: HEIGHT - MARGIN.top - MARGIN.bottom };
    this.x = (at) => MARGIN.left + (at - first) / (last - first || 1) * inner.width;
    this.y = (n) => MARGIN.top + (1 - n / top) * inner.height;
    this.at = (x) => first + (x - MARGIN.left) / inner.width * (last - first);
    const picture = draw('svg', { class: 'plot', width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: 'img', 'aria-label': this.summary() });
    for (let n = 0; n <= top; n += step) {
      picture.append(draw('line', { class: 'rule', x1: MARGIN.left, x2: width - MARGIN.right, y1: this.y(n), y2: this.y(n) }), text('tick end', MARGIN.left - 8, this.y(n) + 4, size(n)));
    }
    for (const t of timeTicks(last, inner.width / 90)) picture.append(text('tick middle', this.x(t), HEIGHT - 8, t === 0 ? '0 s' : duration(t).replace(/\.0+ s$/, ' s')));
    const points = thinned(samples, Math.ceil(inner.width));
    const line = (of) => points.map((s) => `${this.x(s.at).toFixed(1)},${this.y(of(s)).toFixed(1)}`);
    const rss = line((s) => s.rss);
    const used = line(inUse);
    const floor = this.y(0).toFixed(1);
    picture.append(
      draw('polygon', { class: 'wasted', points: [...rss, ...[...used].reverse()].join(' ') }),
      draw('polygon', { class: 'used', points: [`${this.x(points[0].at).toFixed(1)},${floor}`, ...used, `${this.x(points.at(-1).at).toFixed(1)},${floor}`].join(' ') }),
      draw('polyline', { class: 'rss', points: rss.join(' ') }), draw('polyline', { class: 'usedline', points: used.join(' ') }));
    if (this.hwm > 0) picture.append(draw('line', { class: 'hwm', x1: MARGIN.left, x2: width - MARGIN.right, y1: this.y(this.hwm), y2: this.y(this.hwm) }));
    this.marks(picture, width);
    this.cross = draw('g', { class: 'cross' }, draw('line', { y1: MARGIN.top, y2: MARGIN.top + inner.height }), draw('circle', { r: 4, class: 'onrss' }), draw('circle', { r: 4, class: 'onused' }));
    picture.append(this.cross);
    picture.addEventListener('pointermove', (event) => this.follow(event, picture));
    picture.addEventListener('pointerdown', (event) => this.follow(event, picture));
    this.place.replaceChildren(picture);
    this.point(Number(this.range.value));
  }

  // Peak, trough and end, with their names, none on top of another.
  marks(picture, width) {
    const { run } = this;
    const taken = [];
    for (const [name, s] of [['peak', run.peak], ['trough', run.trough], ['end', run.end]]) {
      const x = this.x(s.at);
      const half = 3.4 * name.length + 4;
      const middle = Math.min(Math.max(x, MARGIN.left + half), width - MARGIN.right - half);
      let row = 0;
      while (taken.some((t) => t.row === row && Math.abs(t.middle - middle) < t.half + half)) row += 1;
      taken.push({ middle, half, row });
      const y = MARGIN.top - 10 + 14 * row;
      picture.append(draw('line', { class: 'mark', x1: x, x2: x, y1: y + 4, y2: this.y(0) }), draw('circle', { class: 'markpoint', cx: x, cy: this.y(s.rss), r: 3.5 }), text('marked middle', middle, y, name));
    }
  }

  follow(event, picture) {
    const box = picture.getBoundingClientRect();
    const i = nearest(this.samples, this.at((event.clientX - box.left) * this.width / box.width));
    this.range.value = String(i);
    this.point(i);
  }

  point(i) {
    const s = this.samples[i];
    if (!s) return;
    const said = `${duration(s.at)}: RSS ${size(s.rss)}, in use ${size(inUse(s))}, free ${size(s.free)}`;
    this.said.textContent = said;
    this.said.title = `RSS ${exact(s.rss)}, free ${exact(s.free)}`;
    this.range.setAttribute('aria-valuetext', said);
    if (!this.cross) return;
    const [line, onRss, onUsed] = this.cross.children;
    for (const [element, name] of [[line, 'x1'], [line, 'x2'], [onRss, 'cx'], [onUsed, 'cx']]) element.setAttribute(name, this.x(s.at));
    onRss.setAttribute('cy', this.y(s.rss));
    onUsed.setAttribute('cy', this.y(inUse(s)));
  }

  summary() {
    const { run } = this;
    return `RSS and what is in use over ${duration(run.seconds)}: peak ${size(run.peak.rss)} at ${duration(run.peak.at)}, least in use after it ${size(inUse(run.trough))} with RSS ${size(run.trough.rss)} at ${duration(run.trough.at)}, at the end RSS ${size(run.end.rss)} with ${size(run.end.free)} free. The table of samples below has the same.`;
  }
}

function key(name, ...what) {
  return make('span', { class: 'key' }, make('span', { class: 'keymark s-' + name, 'aria-hidden': 'true' }), ...what);
}

function text(name, x, y, said) {
  const element = draw('text', { class: name, x, y });
  element.textContent = said;
  return element;
}

function samplesGrid(run, state) {
  return new Grid({
    id: 'samples', title: 'Samples', rows: run.samples, sort: 'at', limit: 5, empty: 'None was taken.', columns: [
      { key: 'at', label: 'at', kind: 'plain', left: true, of: (s) => s.at, show: (s) => make('span', { text: duration(s.at) }) },
      { key: 'rss', label: 'RSS', word: 'RSS', kind: 'bytes', of: (s) => s.rss, bar: 'rss' },
      { key: 'used', label: 'in use', word: 'in use', kind: 'bytes', of: inUse, bar: 'live' },
      { key: 'free', label: 'free', word: 'waste', kind: 'bytes', of: (s) => s.free, bar: 'pinned_free' },
    ],
  }, state);
}

function childrenGrid(run, state) {
  const left = run.children_left_out;
  return new Grid({
    id: 'children', title: 'Processes that it started', rows: run.children, sort: '-peak_rss', empty: left > 0 ? `${counted(left, 'process', 'processes')} were not followed, for there were too many.` : 'None.',
    note: left > 0 ? `${count(left)} more were not followed, for there were too many.` : null, columns: [
      { key: 'command', label: 'command', kind: 'text', of: (c) => c.command },
      { key: 'pid', label: 'pid', kind: 'plain', of: (c) => c.pid },
      { key: 'parent', label: 'parent', kind: 'plain', quiet: true, of: (c) => c.parent },
      { key: 'peak_rss', label: 'peak RSS', word: 'RSS', kind: 'bytes', of: (c) => c.peak_rss, bar: 'rss' },
      { key: 'rss', label: 'RSS, last seen', kind: 'bytes', sum: true, of: (c) => c.rss },
      { key: 'pss', label: 'PSS', word: 'PSS', kind: 'bytes', sum: true, of: (c) => c.pss },
      { key: 'free', label: 'free', kind: 'bytes', sum: true, of: (c) => c.free },
      { key: 'running', label: 'at the end', kind: 'text', slim: true, quiet: true, of: (c) => (c.running ? 'runs on' : 'ended') },
    ],
  }, state);
}
