// A table on the page: sorted, filtered, cut with a stated count, summed. Owns how it looks and is used; what its
// columns say is the caller's.
import { count, counted, exact, percent, shown, signed, size } from './text.js';
import { filteredRows, orderOf, relation, sortedRows, sumOf, valueOf } from './rows.js';
import { alien, make, term } from './make.js';

// Rows at first, and rows that are made at all.
const FIRST_ROWS = 10;
const MOST_GRID_ROWS = 1000;
// Rows of a table that are printed, unless all are shown.
const PRINTED_ROWS = 25;
// A table of so many rows can be filtered.
const WORTH_A_FILTER = 8;

// `given`: `id` (of the hash's fields), `title`, `about` (children below the title), `rows`, `columns`, `sort` (`-key`),
// `empty` (what is said without rows), `select` ({ field, of }: a state's field that a click on a row sets),
// `whole` ({ key, bytes, name }: the JSON's total of a column), `onSelect`, `limit`, `level` (of its heading).
// A column: `key`, `label`, `word` of the glossary, `kind` (text | bytes | change | count | percent | plain), `of`
// (row -> value), `show` (row -> element), `sum` (whether it adds up), `bar` (drawn behind the number), `head` (row -> head
// of a chain).
export class Grid {
  constructor(given, state) {
    Object.assign(this, { limit: FIRST_ROWS, level: 3, sort: '', empty: 'None.' }, given);
    this.state = state;
    this.element = make('div', { class: 'grid', id: 'grid-' + this.id, 'data-table': this.id });
    this.heading = make('h' + this.level, { id: 'grid-' + this.id + '-h', text: this.title, tabindex: '-1' });
    const top = make('div', { class: 'gridhead' }, this.heading);
    this.element.append(top, ...[this.about ?? []].flat());
    if (this.rows.length === 0) {
      this.element.append(make('p', { class: 'absent', text: this.empty }));
      return;
    }
    this.build(top);
    this.fill();
    this.listener = (_, changed) => this.changed(changed);
    state.subscribe(this.listener);
  }

  // Nobody looks at it any more.
  release() {
    if (this.listener) this.state.unsubscribe(this.listener);
  }

  changed(names) {
    if (!this.element.isConnected) return;
    const own = ['sort', 'find', 'all'].map((n) => `${n}.${this.id}`);
    if (names.some((n) => own.includes(n) || n === 'bytes')) this.fill();
    else if (this.select && names.includes(this.select.field)) this.mark();
  }

  build(top) {
    const tools = make('div', { class: 'tools' });
    this.told = make('span', { class: 'told', role: 'status' });
    if (this.rows.length >= WORTH_A_FILTER && this.columns.some((c) => c.kind === 'text')) {
      this.find = make('input', { type: 'search', placeholder: 'Filter', 'aria-label': `Filter: ${this.title}`, spellcheck: 'false', autocomplete: 'off', maxlength: '200' });
      this.find.addEventListener('input', () => this.state.set({ ['find.' + this.id]: this.find.value }));
      tools.append(this.told, this.find);
      top.append(tools);
    }
    this.heads = this.columns.map((column) => {
      const arrow = make('span', { class: 'arrow', 'aria-hidden': 'true' });
      const button = make('button', { type: 'button', class: 'sort', on: { click: () => this.sortBy(column) } }, column.label, arrow);
      const th = make('th', { scope: 'col', class: cellClass(column) }, button);
      if (column.word) th.append(term(column.word, '?'));
      th.querySelector('.term')?.setAttribute('aria-label', `What is: ${column.label}`);
      return { th, arrow, column };
    });
    this.body = make('tbody');
    this.foot = make('tfoot');
    const table = make('table', { class: this.columns.length <= 5 ? 'short' : this.columns.length > 12 ? 'broad' : null, 'aria-labelledby': this.heading.id }, make('thead', {}, make('tr', {}, this.heads.map((h) => h.th))), this.body, this.foot);
    const scroll = make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-labelledby': this.heading.id }, table);
    this.more = make('button', { type: 'button', class: 'quiet noprint', on: { click: () => this.state.set({ ['all.' + this.id]: this.state.get('all.' + this.id) ? '' : '1' }) } });
    this.said = make('p', { class: 'relation' });
    this.printed = make('p', { class: 'relation printonly' });
    this.element.append(scroll, make('div', { class: 'under' }, this.more, this.printed, this.said));
  }

  sortBy(column) {
    const now = orderOf(this.state.get('sort.' + this.id), this.columns, this.sort);
    const descending = now?.column === column ? !now.descending : column.kind !== 'text';
    this.state.set({ ['sort.' + this.id]: (descending ? '-' : '') + column.key });
  }

  fill() {
    const needle = this.state.get('find.' + this.id);
    if (this.find && this.find.value !== needle) this.find.value = needle;
    const order = orderOf(this.state.get('sort.' + this.id), this.columns, this.sort);
    const found = filteredRows(this.rows, this.columns, needle);
    const sorted = order ? sortedRows(found, order.column, order.descending) : found;
    for (const { th, arrow, column } of this.heads) {
      const by = order?.column === column;
      th.setAttribute('aria-sort', by ? (order.descending ? 'descending' : 'ascending') : 'none');
      arrow.textContent = by ? (order.descending ? '▾' : '▴') : '';
    }
    const all = this.state.get('all.' + this.id) !== '';
    const made = sorted.slice(0, MOST_GRID_ROWS);
    this.shownRows = made;
    const most = new Map(this.columns.filter((c) => c.bar).map((c) => [c, Math.max(...made.map((r) => Math.abs(valueOf(c, r) ?? 0)), 1)]));
    // Some that are beyond the first rows are there for the printer.
    this.trs = made.map((row, i) => {
      const cut = all || i < this.limit ? null : i < PRINTED_ROWS ? 'beyond' : 'beyond far';
      const tr = make('tr', { class: cut }, this.columns.map((column, j) => this.cell(column, row, j, most)));
      if (this.select) tr.addEventListener('click', (event) => !event.target.closest('button, a, input') && !String(getSelection()) && this.choose(row));
      return tr;
    });
    this.body.replaceChildren(...this.trs);
    this.foot.replaceChildren(this.sumRow(found));
    this.tell(found, made, all);
    this.mark();
  }

  cell(column, row, j, most) {
    const value = valueOf(column, row);
    const tag = j === 0 ? 'th' : 'td';
    const td = make(tag, { class: cellClass(column), scope: j === 0 ? 'row' : null });
    if (j === 0 && this.select && this.select.of(row)) {
      const button = make('button', { type: 'button', class: 'pick', 'aria-pressed': 'false', on: { click: () => this.choose(row) } }, column.show ? column.show(row) : alien(value, column.head?.(row)));
      // What is cut has its own button, which no button may hold.
      const more = button.querySelector('.more');
      td.append(button, ...(more ? [more] : []));
      return td;
    }
    if (column.show) td.append(column.show(row));
    else if (value === null) td.append(make('span', { class: 'none', title: 'not known', text: '–' }));
    else if (column.kind === 'text') td.append(alien(value, column.head?.(row)));
    else td.append(make('data', { value: String(value), title: column.kind === 'bytes' || column.kind === 'change' ? exact(value) : null, class: value === 0 ? 'zero' : null, text: this.number(column, value) }));
    if (column.bar && value !== 0 && typeof value === 'number') td.append(barOf(value, most.get(column), column.bar));
    return td;
  }

  number(column, value) {
    const say = this.state.get('bytes') === 'exact' ? exact : size;
    switch (column.kind) {
      case 'bytes': return say(value);
      case 'change': return signed(value, say);
      case 'changecount': return signed(value, count);
      case 'percent': return percent(value, 100);
      case 'plain': return String(value);
      default: return count(value);
    }
  }

  sumRow(rows) {
    const sums = this.columns.some((c) => c.sum);
    if (!sums && rows.length === this.rows.length) return make('tr');
    const cells = this.columns.map((column, j) => {
      if (j === 0) return make('th', { scope: 'row', class: cellClass(column), text: (sums ? 'Sum of ' : '') + (rows.length === this.rows.length ? '' : `${count(rows.length)} of `) + counted(this.rows.length, 'row') });
      const sum = column.sum ? sumOf(rows, column) : null;
      if (sum === null) return make('td', { class: cellClass(column) });
      return make('td', { class: cellClass(column), 'data-sum': column.key }, make('data', { value: String(sum), title: exact(sum), text: this.number(column, sum) }));
    });
    return make('tr', {}, cells);
  }

  tell(found, made, all) {
    const hidden = found.length - Math.min(found.length, all ? made.length : this.limit);
    const filtered = found.length !== this.rows.length;
    if (this.told) this.told.textContent = filtered ? `${count(found.length)} of ${counted(this.rows.length, 'row')} match` : '';
    this.more.hidden = made.length <= this.limit;
    this.more.textContent = all ? `Show the first ${this.limit}` : `Show all ${count(Math.min(found.length, MOST_GRID_ROWS))} rows`;
    this.more.setAttribute('aria-expanded', String(all));
    this.printed.textContent = !all && made.length > PRINTED_ROWS ? `The first ${PRINTED_ROWS} of ${counted(found.length, 'row')} are printed.` : '';
    const notes = [];
    if (all && hidden > 0) notes.push(`${counted(hidden, 'row')} more are not shown: filter, or see --json.`);
    if (this.whole && !filtered) {
      const column = this.columns.find((c) => c.key === this.whole.key);
      const sum = sumOf(this.rows, column) ?? 0;
      const { left, over } = relation(sum, this.whole.bytes);
      const say = (n) => `${size(n)} (${exact(n)})`;
      if (left > 0) notes.push(`${this.whole.name} is ${say(this.whole.bytes)}: ${say(left)} of it ${this.whole.rest ?? 'in groups that are not listed'}.`);
      else if (over > 0) notes.push(`${this.whole.name} is ${say(this.whole.bytes)}: ${say(over)} less, ${this.whole.over ?? 'for rows overlap'}.`);
      else notes.push(`These rows are all of it: ${this.whole.name.replace(/^(All|The) /, (w) => w.toLowerCase())} is ${say(this.whole.bytes)}.`);
    }
    if (this.note) notes.push(this.note);
    this.said.textContent = notes.join(' ');
    this.said.hidden = notes.length === 0;
  }

  // Marks the row of what is selected, and shows it if it was cut.
  mark() {
    if (!this.select) return;
    const chosen = this.state.get(this.select.field);
    this.trs.forEach((tr, i) => {
      const is = chosen !== '' && this.select.of(this.shownRows[i]) === chosen;
      tr.classList.toggle('selected', is);
      if (is) tr.classList.remove('beyond', 'far');
      tr.querySelector('.pick')?.setAttribute('aria-pressed', String(is));
    });
  }

  choose(row) {
    const value = this.select.of(row);
    if (!value) return;
    const again = this.state.get(this.select.field) === value;
    this.state.set({ ...this.select.also, [this.select.field]: again ? '' : value });
    if (!again) this.select.then?.(row, this);
  }
}

function cellClass(column) {
  return (column.kind === 'text' ? 'text' : column.left ? 'left' : 'number') + (column.quiet ? ' quietly' : '') + (column.wide ? ' wide' : '') + (column.slim ? ' slim' : '');
}

// A bar behind a number: from its left for an amount, to either side of the middle for a change.
function barOf(value, most, colour) {
  const bar = make('span', { class: 'inbar', 'aria-hidden': 'true' });
  const fill = make('span', { class: 'fill ' + (colour === 'change' ? (value < 0 ? 'less' : 'grown') : 'c-' + colour) });
  const share = Math.min(Math.abs(value) / most, 1);
  if (colour === 'change') {
    bar.classList.add('both');
    Object.assign(fill.style, { width: 50 * share + '%', left: value < 0 ? 50 - 50 * share + '%' : '50%' });
  } else {
    fill.style.width = 100 * share + '%';
  }
  bar.append(fill);
  return bar;
}

// A short list as text: `a, b and 3 more`.
export function listed(names, most) {
  const said = names.slice(0, most).map((n) => shown(n, 40)).join(', ');
  return names.length > most ? `${said} and ${count(names.length - most)} more` : said;
}
