// Text and numbers as they are shown. Owns how hostile text is made harmless: whatever comes from the target
// goes through `shown` before it is on the page, and only ever as text.

// Control characters and those that turn the direction of text around, as escapes.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffc]/g;

// A text of the target's, harmless and at most `most` characters long.
export function shown(text, most = 160) {
  const escaped = String(text).slice(0, 4 * most).replace(HIDDEN, (c) => '\\u{' + c.codePointAt(0).toString(16) + '}');
  const units = [...escaped];
  if (units.length <= most && String(text).length <= 4 * most) return escaped;
  const half = Math.floor((most - 1) / 2);
  const end = [...String(text).slice(-2 * half).replace(HIDDEN, '·')].slice(-half);
  return units.slice(0, half).join('') + '…' + end.join('');
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

// Bytes as the text report has them: 1.23 GiB, 45.6 MiB, 789 B.
export function size(bytes) {
  let unit = 0;
  let value = Math.abs(bytes);
  while (value >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return (bytes < 0 ? '−' : '') + value.toFixed(digits) + ' ' + UNITS[unit];
}

export function count(n) {
  return Math.round(n).toLocaleString('en').replaceAll(',', ' ');
}

export function percent(part, whole) {
  return whole > 0 ? (100 * part / whole).toFixed(1) + ' %' : '–';
}
