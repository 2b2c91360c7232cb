// Columns: from islands in the page to typed arrays. Owns base64, inflating and varints; knows no meaning.
// Nothing here believes a length: what does not fit is null, and the heap says that it is damaged.

export const COLUMNS = ['pages', 'tiles', 'blocks', 'slack', 'pools', 'live'];

// The bytes of an island; null where there is none or it is damaged. Its text is let go.
export async function island(id) {
  const element = document.getElementById(id);
  if (!element) return null;
  const stored = fromBase64(element.textContent);
  const length = Number(element.dataset.bytes);
  element.remove();
  const bytes = stored && await inflated(stored);
  return bytes && bytes.length === length ? bytes : null;
}

// All columns of a look, side by side.
export async function islands(look) {
  const bytes = await Promise.all(COLUMNS.map((name) => island(`look${look}-${name}`)));
  return Object.fromEntries(COLUMNS.map((name, i) => [name, bytes[i]]));
}

// Raw deflate undone; null where it is none.
export async function inflated(stored) {
  try {
    const stream = new Blob([stored]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    return null;
  }
}

const SIXTYFOUR = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

// The bytes of base64 text with its padding; null where it is none.
export function fromBase64(text) {
  if (Uint8Array.fromBase64) {
    try {
      return Uint8Array.fromBase64(text);
    } catch {
      return null;
    }
  }
  return decodedBase64(text);
}

// For browsers that cannot: four characters at a time.
export function decodedBase64(text) {
  if (text.length % 4 !== 0) return null;
  const value = new Uint8Array(128).fill(255);
  for (let i = 0; i < 64; i++) value[SIXTYFOUR.charCodeAt(i)] = i;
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const bytes = new Uint8Array(text.length / 4 * 3 - padding);
  const whole = text.length - (padding ? 4 : 0);
  let at = 0;
  let wrong = 0;
  const digit = (i) => {
    const c = text.charCodeAt(i);
    const v = c < 128 ? value[c] : 255;
    wrong |= v & 192;
    return v;
  };
  for (let i = 0; i < whole; i += 4) {
    const word = digit(i) << 18 | digit(i + 1) << 12 | digit(i + 2) << 6 | digit(i + 3);
    bytes[at++] = word >> 16;
    bytes[at++] = word >> 8;
    bytes[at++] = word;
  }
  if (padding) {
    const word = digit(whole) << 18 | digit(whole + 1) << 12 | (padding === 1 ? digit(whole + 2) << 6 : 0);
    bytes[at++] = word >> 16;
    if (padding === 1) bytes[at++] = word >> 8;
  }
  return wrong ? null : bytes;
}

// Numbers stored as varints, as doubles; null where one is cut off or larger than a double tells apart.
export function varints(bytes) {
  let count = 0;
  for (let i = 0; i < bytes.length; i++) count += bytes[i] >> 7 ^ 1;
  const numbers = new Float64Array(count);
  let at = 0;
  let n = 0;
  while (at < bytes.length) {
    let byte = bytes[at++];
    let low = byte & 127;
    let scale = 128;
    while (byte & 128) {
      if (at >= bytes.length) return null;
      byte = bytes[at++];
      low += (byte & 127) * scale;
      scale *= 128;
      if (scale > 2 ** 70) return null;
    }
    if (low > Number.MAX_SAFE_INTEGER) return null;
    numbers[n++] = low;
  }
  return numbers;
}
