// Bitmaps of 32-bit words, and searching in what is in order. Free of meaning.

// The last index whose value is not above `wanted`, of `count` ascending ones; -1: none.
export function lastNotAbove(count, value, wanted) {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = low + high >>> 1;
    if (value(middle) <= wanted) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

export function popcount(word) {
  let w = word - (word >>> 1 & 0x55555555);
  w = (w & 0x33333333) + (w >>> 2 & 0x33333333);
  return Math.imul(w + (w >>> 4) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

// Bitmaps: bit `i` of those that begin at word `at`.
export function isSet(words, at, i) {
  return (words[at + (i >>> 5)] >>> (i & 31) & 1) === 1;
}

// Bits set in `from..upto`.
export function countSet(words, at, from, upto) {
  if (upto <= from) return 0;
  const first = at + (from >>> 5);
  const last = at + (upto - 1 >>> 5);
  const head = 0xffffffff << (from & 31);
  const tail = 0xffffffff >>> (31 - (upto - 1 & 31));
  if (first === last) return popcount(words[first] & head & tail);
  let n = popcount(words[first] & head) + popcount(words[last] & tail);
  for (let w = first + 1; w < last; w++) n += popcount(words[w]);
  return n;
}

// The index of the n-th bit that is set.
export function nthSet(words, at, n) {
  let w = at;
  let left = n;
  for (let ones = popcount(words[w]); left >= ones; ones = popcount(words[++w])) left -= ones;
  let word = words[w];
  for (; left > 0; left--) word &= word - 1;
  return 32 * (w - at) + 31 - Math.clz32(word & -word);
}
