// What the reader looks at: colours, rung, selection, tables. Owns its form in the location's hash, so that a link
// leads back to the same view. Knows nothing of the page; whoever shows it subscribes.

const DEFAULTS = { colour: 'state', rung: 'now', type: '', owner: '', at: '', look: '0', of: '', by: 'owner', section: '', theme: '', bytes: '', amount: 'peak', zoom: '', seek: '' };
// Of a table: how it is sorted, what it is filtered by, whether all rows are shown.
const OF_TABLE = /^(sort|find|all)\.[a-z_]{1,30}$/;
// Longest value that is taken from a hash.
const LONGEST_VALUE = 4096;

// Fields, all strings. colour: state | type | owner. rung: now | trim | purge | compact | ideal.
// type, owner: the selected type's name, the selected owner's head, or ''. at: address of the selected block in hex, or ''.
// look: which look `at` is of. of: which look the tables are of, or '' for the page's own choice.
// by: what pins are listed by, owner | type | class | site. section: where the reader was led last.
// theme: '' (as the system has it) | light | dark. bytes: '' (rounded) | exact.
// Of a recording: amount: peak | retained | allocated. zoom: number of the call that is drawn widest, or '' for all.
// seek: words that names of calls must have to be lit up.
// sort.TABLE: `-column` or `column`; find.TABLE: a text; all.TABLE: '' or `1`.
export class State {
  constructor(hash = '') {
    this.fields = { ...DEFAULTS };
    this.listeners = [];
    this.read(hash);
  }

  get(name) {
    return this.fields[name] ?? '';
  }

  // Changes some fields and tells who listens, with the names of those that changed.
  set(changes) {
    const known = (k) => Object.hasOwn(DEFAULTS, k) || OF_TABLE.test(k);
    const changed = Object.keys(changes).filter((k) => known(k) && this.get(k) !== String(changes[k]));
    if (changed.length === 0) return;
    for (const k of changed) this.fields[k] = String(changes[k]);
    for (const listener of this.listeners) listener(this, changed);
  }

  subscribe(listener) {
    this.listeners.push(listener);
  }

  unsubscribe(listener) {
    this.listeners = this.listeners.filter((l) => l !== listener);
  }

  hash() {
    const set = Object.entries(this.fields).filter(([k, v]) => v !== (DEFAULTS[k] ?? ''));
    return set.map(([k, v]) => k + '=' + encodeURIComponent(v)).join('&');
  }

  // Takes all fields from a hash; those that it does not name go back to their beginnings. `set` passes over what is no
  // field.
  read(hash) {
    const fields = { __proto__: null, ...DEFAULTS };
    for (const k of Object.keys(this.fields)) if (OF_TABLE.test(k)) fields[k] = '';
    for (const part of hash.replace(/^#/, '').split('&')) {
      const [k, v] = part.split('=');
      if (v === undefined || v.length > LONGEST_VALUE) continue;
      try {
        fields[k] = decodeURIComponent(v);
      } catch { /* no text of ours */ }
    }
    this.set(fields);
  }
}
