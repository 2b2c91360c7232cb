// What the reader looks at: colours, rung, selection. Owns its form in the location's hash, so that a link leads
// back to the same view. Knows nothing of the page; whoever shows it subscribes.

const DEFAULTS = { colour: 'state', rung: 'now', type: '', owner: '', at: '', look: '0' };

// Fields, all strings. colour: state | type | owner. rung: now | trim | purge | compact | ideal.
// type, owner: the selected type's name, the selected owner's head, or ''. at: address of the selected block in hex, or ''.
// look: which look `at` is of.
export class State {
  constructor(hash = '') {
    this.fields = { ...DEFAULTS };
    this.listeners = [];
    this.read(hash);
  }

  get(name) {
    return this.fields[name];
  }

  // Changes some fields and tells who listens, with the names of those that changed.
  set(changes) {
    const changed = Object.keys(changes).filter((k) => k in DEFAULTS && this.fields[k] !== String(changes[k]));
    if (changed.length === 0) return;
    for (const k of changed) this.fields[k] = String(changes[k]);
    for (const listener of this.listeners) listener(this, changed);
  }

  subscribe(listener) {
    this.listeners.push(listener);
  }

  hash() {
    const set = Object.entries(this.fields).filter(([k, v]) => v !== DEFAULTS[k]);
    return set.map(([k, v]) => k + '=' + encodeURIComponent(v)).join('&');
  }

  read(hash) {
    const fields = { ...DEFAULTS };
    for (const part of hash.replace(/^#/, '').split('&')) {
      const [k, v] = part.split('=');
      try {
        if (k in DEFAULTS && v !== undefined) fields[k] = decodeURIComponent(v);
      } catch { /* not ours */ }
    }
    this.set(fields);
  }
}
