// Elements of the page, made one way. Owns how text gets there (as text, never as markup), words that explain
// themselves, and commands that can be copied.
import { exact, shown, size } from './text.js';
import { GLOSSARY } from './glossary.js';

// The most of a hostile text that is shown at once, and on demand.
const AT_ONCE = 160;
const ON_DEMAND = 4000;

// An element. `given`: class, text, on (event -> listener), and attributes; children are elements or texts of ours.
export function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'class') element.className = value;
    else if (name === 'text') element.textContent = value;
    else if (name === 'on') for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

// An element of a picture.
export function draw(tag, given = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(given)) if (value !== null) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A text of the target's: harmless, apart from the direction of what is around it, and cut, with the rest on demand.
export function alien(text, head = '', most = AT_ONCE) {
  const whole = String(text);
  const place = make('bdi', { class: 'alien' });
  const write = (limit) => {
    const said = shown(whole, limit);
    place.textContent = '';
    const start = head && whole.startsWith(head) ? shown(head, limit) : '';
    if (start && said.startsWith(start)) place.append(make('b', { text: start }), said.slice(start.length));
    else place.append(said);
    return said;
  };
  write(most);
  if (shown(whole, most) === shown(whole, ON_DEMAND)) return place;
  const more = make('button', { type: 'button', class: 'more', 'aria-expanded': 'false', text: 'more' });
  more.addEventListener('click', (event) => {
    event.stopPropagation();
    const open = more.getAttribute('aria-expanded') !== 'true';
    more.setAttribute('aria-expanded', String(open));
    more.textContent = open ? 'less' : 'more';
    write(open ? ON_DEMAND : most);
  });
  return make('span', {}, place, ' ', more);
}

// Bytes, rounded or with all digits, as the reader wants them.
export function bytes(n, state) {
  const element = make('data', { class: 'bytes', value: String(n), title: exact(n) });
  sayBytes(element, state);
  return element;
}

function sayBytes(element, state) {
  element.textContent = (state.get('bytes') === 'exact' ? exact : size)(Number(element.value));
}

// Says all bytes anew that `bytes` made.
export function followBytes(state) {
  state.subscribe((_, changed) => {
    if (changed.includes('bytes')) for (const element of document.querySelectorAll('data.bytes')) sayBytes(element, state);
  });
}

// One note at a time, below the word that it explains.
const popover = {
  element: null,
  word: null,
  open(word, said, button) {
    this.element ??= document.body.appendChild(make('div', { id: 'word', role: 'tooltip', class: 'popover' }));
    this.close();
    this.word = button;
    this.element.textContent = '';
    this.element.append(make('b', { text: word }), make('p', { text: said }));
    button.setAttribute('aria-expanded', 'true');
    button.setAttribute('aria-describedby', 'word');
    this.element.classList.add('open');
    const at = button.getBoundingClientRect();
    const width = Math.min(340, document.documentElement.clientWidth - 24);
    const left = Math.max(12, Math.min(at.left, document.documentElement.clientWidth - width - 12));
    const below = at.bottom + 6 + this.element.offsetHeight < innerHeight || at.top < this.element.offsetHeight + 12;
    Object.assign(this.element.style, {
      width: width + 'px',
      left: left + scrollX + 'px',
      top: (below ? at.bottom + 6 : at.top - this.element.offsetHeight - 6) + scrollY + 'px',
    });
  },
  close() {
    if (!this.word) return;
    this.word.setAttribute('aria-expanded', 'false');
    this.word.removeAttribute('aria-describedby');
    this.word = null;
    this.element.classList.remove('open');
  },
};

export function watchPopover() {
  document.addEventListener('keydown', (event) => event.key === 'Escape' && popover.close());
  document.addEventListener('pointerdown', (event) => {
    if (popover.word && !popover.word.contains(event.target) && !popover.element.contains(event.target)) popover.close();
  });
  addEventListener('resize', () => popover.close());
  document.addEventListener('focusin', (event) => popover.word && event.target !== popover.word && popover.close());
}

// A word of the glossary: a button that explains it, by mouse, touch and keyboard. `label`: what stands there; `said`: its
// explanation, where it is another list's.
export function term(word, label = word, said = Object.hasOwn(GLOSSARY, word) ? GLOSSARY[word] : null) {
  if (said === null) return make('span', { text: label });
  const button = make('button', { type: 'button', class: 'term', 'aria-expanded': 'false', text: label });
  button.addEventListener('click', (event) => {
    event.stopPropagation();
    if (popover.word === button) popover.close();
    else popover.open(word, said, button);
  });
  return button;
}

// A command as it would be typed, and a button that copies just what is shown.
export function command(text) {
  const said = shown(text, ON_DEMAND);
  const code = make('code', { text: said });
  const button = make('button', { type: 'button', class: 'copy', text: 'Copy', 'aria-label': 'Copy: ' + said.slice(0, 80) });
  button.addEventListener('click', async () => {
    const done = await copied(said, code);
    button.textContent = done ? 'Copied' : 'Selected';
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
  });
  return make('span', { class: 'command' }, code, button);
}

// Whether a text got to the clipboard; else it is selected where it stands.
async function copied(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return false;
  }
}

// A section of the page with its heading.
export function part(id, title, ...children) {
  const heading = make('h2', { id: id + '-h', tabindex: '-1' }, title);
  return make('section', { id, class: 'part', 'aria-labelledby': id + '-h' }, heading, ...children);
}

// What is absent, said plainly.
export function absent(text) {
  return make('p', { class: 'absent', text });
}

// To a part of the page, by sight and by focus.
export function lead(id) {
  const place = document.getElementById(id);
  if (!place) return;
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  place.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' });
  document.getElementById(id + '-h')?.focus({ preventScroll: true });
}
