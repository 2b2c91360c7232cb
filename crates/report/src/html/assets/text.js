// Text and numbers as they are shown. Owns how hostile text is made harmless: whatever comes from the target
// goes through `shown` before it is on the page, and only ever as text.

// Control characters, those that turn the direction of text around, and those that take no room: shown as escapes.
// The same as the text report's.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffc]|\udb40[\udc00-\udfff]/g;

// Marks that pile up on one letter until they cover what stands above it.
const PILED = /(\p{M}{3})\p{M}+/gu;

// A text of the target's, harmless and at most `most` characters long.
export function shown(text, most = 160) {
  const tame = (t) => t.replace(PILED, '$1…');
  const escaped = tame(String(text).slice(0, 4 * most)).replace(HIDDEN, (c) => '\\u{' + c.codePointAt(0).toString(16) + '}');
  const units = [...escaped];
  if (units.length <= most && String(text).length <= 4 * most) return escaped;
  const half = Math.floor((most - 1) / 2);
  if (half === 0) return '…';
  const end = [...tame(String(text).slice(-2 * half)).replace(HIDDEN, '·')].slice(-half);
  return units.slice(0, half).join('') + '…' + end.join('');
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
// Sizes of this many columns still line up: 99999.9. As in the text report, MiB go on until then.
const LONGEST = 99999.95;

// Bytes with one decimal: 789 B, 12.3 KiB, 45.6 MiB, 1234.5 MiB.
export function size(bytes) {
  if (!Number.isFinite(bytes)) return '?';
  let value = Math.abs(bytes);
  let unit = 0;
  while (unit < UNITS.length - 1 && value >= (unit < 2 ? 1023.95 : LONGEST)) {
    value /= 1024;
    unit += 1;
  }
  return (bytes < 0 ? '−' : '') + (unit === 0 ? count(value) : value.toFixed(1)) + ' ' + UNITS[unit];
}

// All digits: 154,470,912 B.
export function exact(bytes) {
  return Number.isFinite(bytes) ? (bytes < 0 ? '−' : '') + count(Math.abs(bytes)) + ' B' : '?';
}

// With the sign of a change: +3.1 MiB, −3.1 MiB, 0 B.
export function signed(bytes, say = size) {
  return (bytes > 0 ? '+' : '') + say(bytes);
}

// 41,200, as in the text report.
export function count(n) {
  if (!Number.isFinite(n)) return '?';
  return (n < 0 ? '−' : '') + Math.abs(Math.round(n)).toLocaleString('en-US');
}

// A share with one decimal. What is not nothing does not read as nothing, nor what is not all as all.
export function percent(part, whole) {
  if (!(whole > 0) || !Number.isFinite(part)) return '–';
  const value = 100 * part / whole;
  if (value > 0 && value < 0.05) return '<0.1%';
  // Sums of shares are not exact.
  return (part < whole * (1 - 1e-9) ? Math.min(value, 99.9) : value).toFixed(1) + '%';
}

// Seconds: 0.25 s, 12.3 s, 3 min 05 s, 2 h 03 min, 4 d 05 h.
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return 'not known';
  const sign = seconds < 0 ? '−' : '';
  const s = Math.abs(seconds);
  const two = (n) => String(Math.floor(n)).padStart(2, '0');
  if (s < 10) return sign + s.toFixed(2) + ' s';
  if (s < 100) return sign + s.toFixed(1) + ' s';
  if (s < 3600) return sign + Math.floor(s / 60) + ' min ' + two(s % 60) + ' s';
  if (s < 86400) return sign + Math.floor(s / 3600) + ' h ' + two(s % 3600 / 60) + ' min';
  return sign + count(Math.floor(s / 86400)) + ' d ' + two(s % 86400 / 3600) + ' h';
}

// A time since the epoch: 2024-11-22 16:10:45 UTC.
export function moment(epoch) {
  const date = new Date(epoch * 1000);
  if (!Number.isFinite(epoch) || Number.isNaN(date.getTime())) return 'not known';
  return date.toISOString().slice(0, 19).replace('T', ' ') + ' UTC';
}

// `1 arena`, `2 arenas`.
export function counted(n, noun, plural = noun + 's') {
  return count(n) + ' ' + (n === 1 ? noun : plural);
}
