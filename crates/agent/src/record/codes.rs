//! Code objects that were seen on stacks: what the trace tells of each, once, and when each is freed.
//!
//! That one is freed is seen by the hooks, which see every free: nothing is attached to it, and no reference is held. A
//! small bitmap of OS pages tells at most frees that they are of none, and one of addresses tells it of those that share
//! such a page.
//!
//! Invariant: touched only with the GIL.

use pydefrag_layout::frames::frames;
use pydefrag_layout::objects::objects;
use pydefrag_trace::chunk::Tag;
use pydefrag_trace::code::{Code, Table};
use rustc_hash::FxHashMap;

use super::frame::{int, word};
use super::lane::Shared;
use super::python::variable;
use super::sample;
use super::stack;
use super::state::state;

/// Bits of a bitmap, a power of two.
const BITS: usize = 1 << 15;
/// Bytes that are gathered before they are written.
const GATHERED: usize = 16 << 10;
/// No name or table of lines is longer.
const LONGEST: u64 = 1 << 20;
/// Bytes before a block that `PYTHONMALLOC=debug` keeps its own in.
const DEBUG: u64 = 16;

/// A code object that is known.
pub(super) struct Known {
    pub(super) number: u32,
    /// Its newest node; 0 for none.
    pub(super) first: u32,
}

/// All of them.
pub(super) struct Codes {
    known: FxHashMap<u64, Known>,
    count: u32,
    unreadable: u64,
    kind: u64,
    text: u64,
    bytes: u64,
    gathered: Vec<u8>,
}

static CODES: Shared<Option<Codes>> = Shared::new(None);
static PAGES: Shared<Bitmap> = Shared::new(Bitmap([0; BITS / 64]));
static ADDRESSES: Shared<Bitmap> = Shared::new(Bitmap([0; BITS / 64]));

/// All of them.
///
/// # Safety
///
/// The GIL is held.
pub(super) unsafe fn codes() -> &'static mut Codes {
    // SAFETY: the caller's promise.
    unsafe {
        (*CODES.get()).get_or_insert_with(|| Codes {
            known: FxHashMap::default(),
            count: 0,
            unreadable: 0,
            kind: variable("PyCode_Type\0"),
            text: variable("PyUnicode_Type\0"),
            bytes: variable("PyBytes_Type\0"),
            gathered: Vec::new(),
        })
    }
}

/// Forgets all of them.
pub(super) fn reset(forked: bool) {
    // SAFETY: nothing is recorded yet, or any more.
    unsafe {
        CODES.renew(None, forked);
        (*PAGES.get()).0.fill(0);
        (*ADDRESSES.get()).0.fill(0);
    }
}

/// Frames whose code could not be read.
///
/// # Safety
///
/// As [`codes`]; or the count may be an old one.
pub(super) unsafe fn unreadable() -> u64 {
    // SAFETY: the caller's promise.
    unsafe { (*CODES.get()).as_ref().map_or(0, |c| c.unreadable) }
}

/// Numbers, of which it is told that they are not in it, or may be.
struct Bitmap([u64; BITS / 64]);

impl Bitmap {
    #[inline(always)]
    fn bit(number: u64) -> usize {
        (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 49) as usize % BITS
    }

    fn set(&mut self, number: u64) {
        let bit = Self::bit(number);
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    #[inline(always)]
    fn may_have(&self, number: u64) -> bool {
        let bit = Self::bit(number);
        self.0[bit / 64] >> (bit % 64) & 1 == 1
    }
}

/// Has frees of this address noticed.
pub(super) fn watch(address: u64) {
    for at in [address, address.wrapping_sub(DEBUG)] {
        // SAFETY: the GIL.
        unsafe {
            (*PAGES.get()).set(at >> 12);
            (*ADDRESSES.get()).set(at >> 4);
        }
        sample::watch(at);
    }
}

/// Whether a block at this address may be one whose end is to be noticed; most are told at once that they are not.
#[inline(always)]
pub(super) fn may_be(address: u64) -> bool {
    // SAFETY: read with the GIL.
    unsafe { (*PAGES.get()).may_have(address >> 12) }
}

/// A block is about to be freed.
#[inline(always)]
pub(super) fn freed(address: u64) {
    if may_be(address) {
        maybe(address);
    }
}

#[cold]
#[inline(never)]
fn maybe(address: u64) {
    // SAFETY: read with the GIL.
    if !unsafe { (*ADDRESSES.get()).may_have(address >> 4) } {
        return;
    }
    super::own::busy(super::own::own(), || {
        for at in [address, address.wrapping_add(DEBUG)] {
            // SAFETY: the GIL.
            if let Some(known) = unsafe { codes() }.known.remove(&at) {
                stack::code_freed(known.first);
            }
            stack::thread_freed(at);
        }
    });
}

impl Codes {
    /// A code object, told to the trace when it is new; `None` for what is none.
    ///
    /// # Safety
    ///
    /// `code` is what a running frame names as its code.
    pub(super) unsafe fn know<const V: u8>(&mut self, code: u64) -> Option<&mut Known> {
        if !self.known.contains_key(&code) {
            // SAFETY: the caller's promise: at least an object.
            unsafe {
                if !self.is_code(code) {
                    self.unreadable += 1;
                    return None;
                }
                let number = self.count;
                self.count += 1;
                self.tell::<V>(code, number);
                self.known.insert(code, Known { number, first: 0 });
            }
            watch(code);
        }
        self.known.get_mut(&code)
    }

    /// Whether a frame's code is one.
    ///
    /// # Safety
    ///
    /// As [`Codes::know`].
    pub(super) unsafe fn is_code(&self, code: u64) -> bool {
        // SAFETY: the caller's promise: at least an object.
        code != 0 && unsafe { word(code + 8) } == self.kind
    }

    /// The number of a file of native code, which is told to the trace.
    pub(super) fn tell_file(&mut self, path: &str, build_id: &[u8]) -> u32 {
        let number = self.count;
        self.count += 1;
        let (file, table) = (path.to_owned(), build_id.to_vec());
        self.write(&Code { number, file, kind: Table::Native, table, ..Code::default() });
        number
    }

    /// # Safety
    ///
    /// `code` is a code object.
    unsafe fn tell<const V: u8>(&mut self, code: u64, number: u32) {
        let at = const { frames(V) };
        // SAFETY: fields of a code object, which it holds references to.
        let told = unsafe {
            Code {
                number,
                file: self.text_of::<V>(word(code + at.filename)),
                name: self.text_of::<V>(word(code + at.name)),
                first_line: int(code + at.first_line).max(0) as u32,
                kind: match V {
                    ..=9 => Table::Lnotab,
                    10 => Table::Ranges,
                    _ => Table::Locations,
                },
                table: self.bytes_of(word(code + at.lines)),
            }
        };
        self.write(&told);
    }

    fn write(&mut self, told: &Code) {
        told.write(&mut self.gathered);
        if self.gathered.len() > GATHERED {
            self.save();
        }
    }

    /// `co_filename` of what a frame names as its code; empty for what is none.
    ///
    /// # Safety
    ///
    /// As [`Codes::know`].
    pub(super) unsafe fn file_of<const V: u8>(&self, code: u64) -> String {
        // SAFETY: the caller's promise.
        unsafe {
            match self.is_code(code) {
                true => self.text_of::<V>(word(code + const { frames(V) }.filename)),
                false => String::new(),
            }
        }
    }

    /// Writes what was gathered to the file.
    pub(super) fn save(&mut self) {
        if !self.gathered.is_empty() {
            state().chunk(Tag::Code, &self.gathered);
            self.gathered.clear();
        }
    }

    /// # Safety
    ///
    /// `object` is an object or null.
    unsafe fn bytes_of(&self, object: u64) -> Vec<u8> {
        // SAFETY: a `bytes`: its length at 16, its data at 32.
        unsafe {
            if object == 0 || word(object + 8) != self.bytes {
                return Vec::new();
            }
            let length = word(object + 16);
            if length > LONGEST {
                return Vec::new();
            }
            std::slice::from_raw_parts((object + 32) as usize as *const u8, length as usize)
                .to_vec()
        }
    }

    /// # Safety
    ///
    /// `object` is an object or null.
    unsafe fn text_of<const V: u8>(&self, object: u64) -> String {
        const UNKNOWN: &str = "?";
        let Some(forms) = objects(V) else { return UNKNOWN.into() };
        let character = |c: u32| char::from_u32(c).unwrap_or('\u{fffd}');
        // SAFETY: a str, by its type: it is as long as its own head says.
        unsafe {
            if object == 0 || word(object + 8) != self.text {
                return UNKNOWN.into();
            }
            let head =
                |length: usize| std::slice::from_raw_parts(object as usize as *const u8, length);
            let Some(s) = forms.str(head(forms.ascii)).or_else(|| forms.str(head(forms.compact)))
            else {
                return UNKNOWN.into();
            };
            let Some(offset) = s.text.filter(|_| s.length <= LONGEST) else {
                return UNKNOWN.into();
            };
            let (at, length) = (object as usize + offset, s.length as usize);
            match s.kind {
                1 => std::slice::from_raw_parts(at as *const u8, length)
                    .iter()
                    .map(|c| char::from(*c))
                    .collect(),
                2 => std::slice::from_raw_parts(at as *const u16, length)
                    .iter()
                    .map(|c| character(u32::from(*c)))
                    .collect(),
                4 => std::slice::from_raw_parts(at as *const u32, length)
                    .iter()
                    .map(|c| character(*c))
                    .collect(),
                _ => UNKNOWN.into(),
            }
        }
    }
}
