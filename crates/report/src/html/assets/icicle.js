// Calls as rectangles: each below its caller and as wide as what it allocated with all that it called. Free of the page.
//
// Calls that are too narrow to be seen are one rectangle together, so that there are no more of them than pixels,
// however many calls there are.

// Rectangles of a call `root` and what it called, in `rows` rows of `width` pixels. Each: `call` (-1: several), `parent`,
// `x`, `width`, `row`, `bytes`, `count` (calls that it stands for), `deeper` (there are more below than rows).
// `byRow`: of each row its rectangles, from left to right.
export function icicle(calls, amount, root, width, rows, least = 1) {
  const total = calls.total[amount];
  const byRow = Array.from({ length: rows }, () => []);
  const rects = [];
  if (!(root < calls.count) || !(total[root] > 0) || !(width > 0) || rows < 1) return { rects, byRow: [] };
  const waiting = [{ call: root, parent: root, x: 0, width, row: 0, bytes: total[root], count: 1, deeper: false }];
  while (waiting.length > 0) {
    const rect = waiting.pop();
    rects.push(rect);
    byRow[rect.row].push(rect);
    if (rect.call < 0) continue;
    const scale = rect.width / total[rect.call];
    const below = called(calls, total, rect.call, least / scale);
    if (rect.row + 1 === rows) {
      rect.deeper = below.wide.length > 0 || below.count > 0;
      continue;
    }
    let x = rect.x;
    const placed = below.wide.map((call) => {
      const one = { call, parent: rect.call, x, width: total[call] * scale, row: rect.row + 1, bytes: total[call], count: 1, deeper: false };
      x += one.width;
      return one;
    });
    if (below.bytes * scale >= least / 2) placed.push({ call: -1, parent: rect.call, x, width: below.bytes * scale, row: rect.row + 1, bytes: below.bytes, count: below.count, deeper: false });
    // The leftmost comes next: so each row is filled from left to right.
    for (let i = placed.length - 1; i >= 0; i--) waiting.push(placed[i]);
  }
  while (byRow.length > 0 && byRow.at(-1).length === 0) byRow.pop();
  return { rects, byRow };
}

// What a call called: those of `least` bytes, the largest first, and the others together.
function called(calls, total, call, least) {
  const wide = [];
  let [bytes, count] = [0, 0];
  for (const child of calls.children(call)) {
    if (total[child] >= least) wide.push(child);
    else if (total[child] > 0) {
      bytes += total[child];
      count += 1;
    }
  }
  wide.sort((a, b) => total[b] - total[a] || a - b);
  return { wide, bytes, count };
}

// The rectangle at a place; null where there is none.
export function rectAt(layout, x, row) {
  const rects = layout.byRow[row];
  if (!rects) return null;
  let [low, high] = [0, rects.length - 1];
  while (low <= high) {
    const middle = (low + high) >> 1;
    const rect = rects[middle];
    if (x < rect.x) high = middle - 1;
    else if (x >= rect.x + rect.width) low = middle + 1;
    else return rect;
  }
  return null;
}

// The rectangle of a call, or of those that it is drawn with; null where it is not drawn.
export function rectOf(layout, calls, call) {
  const own = layout.rects.find((rect) => rect.call === call);
  return own ?? layout.rects.find((rect) => rect.call < 0 && rect.parent === calls.parent[call]) ?? null;
}

// Where a key leads from a rectangle: to its caller, to the widest that it called, to its neighbours of the same row.
export function beside(layout, rect, key) {
  const row = layout.byRow[rect.row];
  const at = row.indexOf(rect);
  switch (key) {
    case 'ArrowLeft': return row[at - 1] ?? rect;
    case 'ArrowRight': return row[at + 1] ?? rect;
    case 'ArrowUp': return rect.row === 0 ? rect : rectAt(layout, rect.x + rect.width / 2, rect.row - 1) ?? rect;
    case 'ArrowDown': {
      const below = (layout.byRow[rect.row + 1] ?? []).filter((r) => rect.call >= 0 && r.parent === rect.call);
      return below.reduce((best, r) => (best === null || r.width > best.width ? r : best), null) ?? rect;
    }
    case 'Home': return layout.byRow[0][0];
    default: return rect;
  }
}
