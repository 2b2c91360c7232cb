// The terms of the account: what a byte of a walked heap is. Owns their order, which is the order in which a page's
// bytes are stacked in the picture, and their words.

// `account`: the field of an owner's account that it is counted in.
export const TERMS = [
  { key: 'live', name: 'live', account: 'live', says: 'handed out and not freed; what an allocation is rounded up to is in it' },
  { key: 'slack', name: 'slack', account: 'live', says: 'inside live blocks: room that containers hold beyond their items' },
  { key: 'metadata', name: 'metadata', account: 'metadata', says: 'headers, and what the allocator can never hand out' },
  { key: 'pinned', name: 'pinned', account: 'pinned_free', says: 'free, on OS pages that a live block or a header keeps' },
  { key: 'hole', name: 'holes', account: 'holes', says: 'OS pages with no live byte, inside a pool or heap in use' },
  { key: 'free', name: 'free pools', account: 'free_spans', says: 'pools of pymalloc with no live block' },
  { key: 'cached', name: 'cached', account: 'cached', says: 'freed chunks that malloc keeps for requests of just their size' },
  { key: 'top', name: 'top', account: 'top', says: 'free, at the end of a malloc heap, of use to any request' },
  { key: 'virgin', name: 'virgin', account: 'virgin', says: 'never handed out yet' },
  { key: 'unread', name: 'unread', account: 'unread', says: 'torn, corrupted or not readable: nothing is known of it' },
  { key: 'other', name: 'of others', account: null, says: 'of another user of brk, on an OS page at the end of a malloc heap: not counted here' },
  { key: 'swapped', name: 'swapped', account: null, says: 'swapped out: not in RSS' },
  { key: 'absent', name: 'not resident', account: null, says: 'address space without memory behind it: not in RSS' },
];

// Number of each term by its key; `returned` is what a rung gives back, and no term of the account.
export const TERM = Object.fromEntries([...TERMS, { key: 'returned' }].map((t, i) => [t.key, i]));

export const RUNGS = ['now', 'trim', 'purge', 'compact', 'ideal'];

export const RUNG_WORDS = {
  now: 'as it was looked at',
  trim: 'after malloc_trim: free runs of malloc that cover whole OS pages are gone',
  purge: 'after a purge: free pools and OS pages without a live byte are gone too',
  compact: 'after compaction: pools that can be emptied are, into free blocks of denser ones',
  ideal: 'live bytes packed without a gap: a bound, no command reaches it',
};

// Flags of an OS page, as the heap crate has them.
export const PAGE = { resident: 1, exclusive: 2, swapped: 4, hole: 8 };

// The first rung that returns a page with these flags, as an index into RUNGS; 0: none does.
export function rungOf(flags) {
  return flags >> 4 & 3;
}

// Kinds of malloc's tiles, as the heap crate numbers them.
export const TILE_KIND = { used: 0, mapped: 1, cached: 2, free: 3, top: 4, overhead: 5, unread: 6, rest: 7, fast: 8, other: 9 };
export const TILE_WORDS = ['chunk in use', 'chunk with a mapping of its own', 'chunk in a tcache', 'free chunk', 'top chunk',
  "malloc's own", 'chunks that could not be followed', 'rest of a chunk', 'chunk in a fastbin', 'memory of another user of brk'];

// Bytes of a tile's header, by kind; and the term of what follows it.
export const TILE_HEADER = [8, 16, 8, 0, 0, 0, 0, 0, 0, 0];
export const TILE_TERM = [TERM.live, TERM.live, TERM.cached, TERM.pinned, TERM.top, TERM.metadata, TERM.unread, TERM.live, TERM.cached, TERM.other];

export const OS_PAGE = 4096;
export const POOL_HEADER = 48;
