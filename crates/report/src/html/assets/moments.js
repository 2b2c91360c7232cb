// Live memory and RSS over time, as a picture that a pointer or a slider reads, with collections and marks in it.
import { count, counted, duration, exact, shown, size } from './text.js';
import { byteTicks, nearest, timeTicks } from './series.js';
import { collections, moments, stretches, told } from './happened.js';
import { absent, draw, make, part } from './make.js';

const TALL = 240;
const EDGE_OF = { left: 74, right: 16, top: 30, bottom: 40 };
// Marks that are named in the picture; the table has all.
const MOST_NAMED = 30;

export function timePart(facts) {
  const all = moments(facts.timeline);
  const section = part('time', 'Over time', make('p', { class: 'about' }, `${duration(facts.duration_ns / 1e9)}; ${counted(all.length, 'moment')}.`));
  section.append(all.length > 1 ? new LiveChart(facts, all).element : absent('Too few moments for a curve.'));
  return section;
}

class LiveChart {
  constructor(facts, all) {
    Object.assign(this, { facts, all, width: 0 });
    this.collections = collections(facts.happenings);
    this.marks = told(facts.happenings).filter((row) => row.name === 'mark');
    const peak = nearest(all, facts.peak.at_ns / 1e9);
    this.said = make('output', { class: 'reading', 'aria-hidden': 'true' });
    this.range = make('input', { type: 'range', class: 'noprint', min: '0', max: String(all.length - 1), step: '1', value: String(peak), 'aria-label': 'Moment of the recording', on: { input: () => this.point(Number(this.range.value)) } });
    this.place = make('div', { class: 'chart' });
    const key = (name, text) => make('span', { class: 'key' }, make('span', { class: 'keymark s-' + name, 'aria-hidden': 'true' }), text);
    const legend = make('p', { class: 'legend' }, key('used', 'live, as recorded'), all.some((m) => m.rss !== null) ? key('rss', 'RSS') : null, this.collections.length > 0 ? key('gc', 'collections') : null, this.marks.length > 0 ? key('hwm', 'marks') : null);
    this.element = make('figure', { class: 'timeline' }, legend, this.place, make('div', { class: 'scrub' }, this.range, this.said));
    new ResizeObserver(() => this.resize()).observe(this.place);
    addEventListener('beforeprint', () => this.redraw(680));
    addEventListener('afterprint', () => this.redraw(this.place.clientWidth));
  }

  resize() {
    const width = Math.floor(this.place.clientWidth);
    if (width > 0 && width !== this.width) this.redraw(width);
  }

  redraw(width) {
    this.width = width;
    const { all, facts } = this;
    const first = Math.min(0, all[0].at);
    const last = Math.max(all.at(-1).at, facts.duration_ns / 1e9) || 1;
    const { top, step } = byteTicks(all.reduce((n, m) => Math.max(n, m.live, m.rss ?? 0), facts.peak.live.bytes));
    const inner = { width: Math.max(width - EDGE_OF.left - EDGE_OF.right, 40), height: TALL - EDGE_OF.top - EDGE_OF.bottom };
    this.x = (at) => EDGE_OF.left + (at - first) / (last - first || 1) * inner.width;
    this.y = (n) => EDGE_OF.top + (1 - n / top) * inner.height;
    this.when = (x) => first + (x - EDGE_OF.left) / inner.width * (last - first);
    const picture = draw('svg', { class: 'plot', width, height: TALL, viewBox: `0 0 ${width} ${TALL}`, role: 'img', 'aria-label': this.summary() });
    for (let n = 0; n <= top; n += step) picture.append(draw('line', { class: 'rule', x1: EDGE_OF.left, x2: width - EDGE_OF.right, y1: this.y(n), y2: this.y(n) }), label('tick end', EDGE_OF.left - 8, this.y(n) + 4, size(n)));
    for (const t of timeTicks(last, inner.width / 90)) picture.append(label('tick middle', this.x(t), TALL - 6, t === 0 ? '0 s' : duration(t).replace(/\.0+ s$/, ' s')));
    this.curves(picture, inner.width);
    this.happened(picture, width);
    this.cross = draw('g', { class: 'cross' }, draw('line', { y1: EDGE_OF.top, y2: EDGE_OF.top + inner.height }), draw('circle', { r: 4, class: 'onrss' }), draw('circle', { r: 4, class: 'onused' }));
    picture.append(this.cross);
    for (const event of ['pointermove', 'pointerdown']) picture.addEventListener(event, (e) => this.follow(e, picture));
    this.place.replaceChildren(picture);
    this.point(Number(this.range.value));
  }

  curves(picture, columns) {
    const line = (all, of) => highest(all, of, columns).map((m) => `${this.x(m.at).toFixed(1)},${this.y(of(m)).toFixed(1)}`);
    const live = line(this.all, (m) => m.live);
    const floor = this.y(0).toFixed(1);
    const ends = [live[0].split(',')[0], live.at(-1).split(',')[0]];
    picture.append(draw('polygon', { class: 'used', points: [`${ends[0]},${floor}`, ...live, `${ends[1]},${floor}`].join(' ') }), draw('polyline', { class: 'usedline', points: live.join(' ') }));
    for (const stretch of stretches(this.all, (m) => m.rss)) picture.append(draw('polyline', { class: 'rss', points: line(stretch, (m) => m.rss).join(' ') }));
    const { peak } = this.facts;
    picture.append(draw('circle', { class: 'markpoint', cx: this.x(peak.at_ns / 1e9), cy: this.y(peak.live.bytes), r: 3.5 }));
  }

  // Collections below the curve, marks across it, none of their names on top of another.
  happened(picture, width) {
    const y = this.y(0) + 4;
    let drawn = -1;
    for (const c of this.collections) {
      const x = Math.min(Math.max(this.x(c.from), EDGE_OF.left), width - EDGE_OF.right);
      const wide = Math.max((c.to === null ? 0 : this.x(c.to)) - this.x(c.from), 1);
      // Of those that fall on one pixel the longest reaches on.
      if (x + wide <= drawn + 1 && c.generation < 2) continue;
      drawn = x + wide;
      picture.append(draw('rect', { class: 'collection g' + Math.min(c.generation, 2), x, y, width: wide, height: 4 + 2 * Math.min(c.generation, 2) }));
    }
    let free = EDGE_OF.left;
    for (const [i, mark] of this.marks.entries()) {
      if (i >= 20 * MOST_NAMED) break;
      const x = this.x(mark.at);
      picture.append(draw('line', { class: 'mark', x1: x, x2: x, y1: EDGE_OF.top - 6, y2: this.y(0) }));
      const said = shown(mark.text, 24);
      if (i >= MOST_NAMED || x < free || x + 7 * said.length > width) continue;
      free = x + 7 * said.length + 6;
      picture.append(label('marked', x + 2, EDGE_OF.top - 10, said));
    }
  }

  follow(event, picture) {
    const box = picture.getBoundingClientRect();
    const i = nearest(this.all, this.when((event.clientX - box.left) * this.width / box.width));
    this.range.value = String(i);
    this.point(i);
  }

  point(i) {
    const m = this.all[i];
    if (!m) return;
    const said = `${duration(m.at)}: live ${size(m.live)} in ${counted(m.blocks, 'block')}${m.rss === null ? '' : ', RSS ' + size(m.rss)}`;
    this.said.textContent = said;
    this.said.title = `live ${exact(m.live)}`;
    this.range.setAttribute('aria-valuetext', said);
    if (!this.cross) return;
    const [line, onRss, onLive] = this.cross.children;
    for (const [element, name] of [[line, 'x1'], [line, 'x2'], [onRss, 'cx'], [onLive, 'cx']]) element.setAttribute(name, this.x(m.at));
    onRss.setAttribute('cy', this.y(m.rss ?? m.live));
    onLive.setAttribute('cy', this.y(m.live));
  }

  summary() {
    const { peak, retained, duration_ns: ns } = this.facts;
    return `Live memory over ${duration(ns / 1e9)}: most at ${duration(peak.at_ns / 1e9)}, ${size(peak.live.bytes)}; at the end ${size(retained.bytes)}. ${counted(this.collections.length, 'collection')}, ${counted(this.marks.length, 'mark')}; ${count(this.all.length)} moments.`;
  }
}

// Of the moments that fall on one column the highest, and the last of all.
export function highest(all, of, columns) {
  if (all.length <= 2 * columns) return all;
  const first = all[0].at;
  const span = all.at(-1).at - first || 1;
  const kept = [];
  let column = -1;
  for (const m of all) {
    const at = Math.floor((m.at - first) / span * columns);
    if (at !== column) kept.push(m);
    else if (of(m) > of(kept.at(-1))) kept[kept.length - 1] = m;
    column = at;
  }
  if (kept.at(-1) !== all.at(-1)) kept.push(all.at(-1));
  return kept;
}

function label(name, x, y, said) {
  const element = draw('text', { class: name, x, y });
  element.textContent = said;
  return element;
}
