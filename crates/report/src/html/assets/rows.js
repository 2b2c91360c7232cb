// Rows of a table: sorted, filtered, summed. Free of the page.

// What a column has to say of a row; null where it is not known.
export function valueOf(column, row) {
  const value = column.of(row);
  return value === undefined || Number.isNaN(value) ? null : value;
}

const byText = new Intl.Collator('en', { numeric: true });

// The rows by a column, those of which it is not known last either way; equal ones stay in their order.
export function sortedRows(rows, column, descending) {
  const keyed = rows.map((row) => [valueOf(column, row), row]);
  const sign = descending ? -1 : 1;
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === 'number' && typeof b === 'number') return sign * (a - b);
    return sign * byText.compare(String(a), String(b));
  });
  return keyed.map(([, row]) => row);
}

// The rows of which some text column has all the words.
export function filteredRows(rows, columns, needle) {
  const words = needle.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return rows;
  const texts = columns.filter((c) => c.kind === 'text');
  return rows.filter((row) => {
    const all = texts.map((c) => String(valueOf(c, row) ?? '')).join('\n').toLowerCase();
    return words.every((word) => all.includes(word));
  });
}

// The sum of a column over the rows of which it is known; null if it is known of none.
export function sumOf(rows, column) {
  let sum = null;
  for (const row of rows) {
    const value = valueOf(column, row);
    if (typeof value === 'number') sum = (sum ?? 0) + value;
  }
  return sum;
}

// `-pinned` as the column `pinned`, descending; what no column has is the table's own order.
export function orderOf(text, columns, first) {
  const read = (t) => {
    const descending = t.startsWith('-');
    const column = columns.find((c) => c.key === (descending ? t.slice(1) : t));
    return column ? { column, descending } : null;
  };
  return read(text) ?? read(first);
}

// How listed rows relate to the whole that the JSON has.
export function relation(sum, whole) {
  const left = whole - sum;
  return { left: Math.max(left, 0), over: Math.max(-left, 0) };
}
