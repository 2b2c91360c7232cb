// What every page has around its parts: colours, rounding, the way to each part.
import { make, lead } from './make.js';

export function themeSwitch(state) {
  const select = make('select', { 'aria-label': 'Colours of the page', on: { change: () => state.set({ theme: select.value }) } }, [['', 'as the system'], ['light', 'light'], ['dark', 'dark']].map(([value, label]) => make('option', { value }, label)));
  const exactly = make('input', { type: 'checkbox', on: { change: () => state.set({ bytes: exactly.checked ? 'exact' : '' }) } });
  const follow = () => {
    const theme = ['light', 'dark'].includes(state.get('theme')) ? state.get('theme') : '';
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    select.value = theme;
    exactly.checked = state.get('bytes') === 'exact';
  };
  follow();
  state.subscribe((_, changed) => (changed.includes('theme') || changed.includes('bytes')) && follow());
  return make('div', { class: 'switches noprint' }, make('label', { class: 'check' }, exactly, 'exact bytes'), make('label', {}, make('span', { class: 'visually-hidden', text: 'Colours' }), select));
}

// Whoever is led to a part comes back to it by the same link.
export function contents(ids, state) {
  const links = ids.map(([id, name]) => make('li', {}, make('a', { href: '#section=' + id, on: { click: (event) => { event.preventDefault(); state.set({ section: id }); lead(id); } } }, name)));
  return make('nav', { class: 'contents noprint', 'aria-label': 'Parts of the report' }, make('ul', {}, links));
}
