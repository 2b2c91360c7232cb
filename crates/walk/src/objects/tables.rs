//! The tables of an explanation: types, owners, slack, duplicates, garbage, from one word per block.
//!
//! Owns which rows are kept and how they are named. Reads the target only for names.

use std::cmp::Reverse;
use std::sync::atomic::Ordering::Relaxed;

use pydefrag_heap::{
    Amount, ClassPin, Detail, Duplicates, Garbage, Map, Named, Objects, OwnerDuplicates, OwnerPin,
    OwnerSlack, Pin, Pins, RootKind, Saving, SitePin, Slack, TypePin, TypeTotal,
};
use pydefrag_image::{Image, Records};
use pydefrag_layout::objects::{GC_HEAD, deque};
use rustc_hash::{FxHashMap, FxHashSet};

use super::chain::Chains;
use super::classify::Table;
use super::explain::visible;
use super::kind::Role;
use super::named::{Owner, Owners, named};
use super::pins::{Grouping, pins};
use super::reach::Reached;
use super::roots::UNSEEN;
use super::savings;
use super::shape::ShapeId;
use super::sites::Sites;
use super::slack::{Counts, SORTS, Sort, of_record};
use super::stream::Progress;
use super::types::Sort as TypeSort;

/// Rows that are kept.
const MOST_TYPES: usize = 100;
const MOST_PINS: usize = 50;
const MOST_WORST: usize = 5;
/// Rows for which names are sought at most: beyond, they pin next to nothing.
const MOST_NAMED: usize = 200;
/// Owners that are named.
const MOST_OWNERS: usize = 1024;

/// What the tables are made from.
pub(crate) struct Tables<'a> {
    pub(crate) image: &'a Image,
    pub(crate) detail: &'a Detail,
    pub(crate) table: &'a Table<'a>,
    pub(crate) reached: &'a Reached<'a>,
    pub(crate) chains: &'a Chains<'a>,
    pub(crate) sites: Option<&'a Sites>,
    pub(crate) frozen: &'a FxHashMap<u32, ()>,
    /// Whether pools that compaction empties can be given back.
    pub(crate) compacts: bool,
    pub(crate) progress: &'a Progress<'a>,
    /// The map whose blocks are named too.
    pub(crate) map: Option<&'a Map>,
}

/// The tables.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) objects: Objects,
    pub(crate) pins: Pins,
    pub(crate) slack: Slack,
    pub(crate) savings: Vec<Saving>,
    pub(crate) duplicates: Duplicates,
    pub(crate) garbage: Garbage,
    pub(crate) compact: u64,
    /// Addresses of the pools that compaction empties.
    pub(crate) emptied: Vec<u64>,
    pub(crate) named: Option<Named>,
}

/// Blocks by type, by head of chain, by site.
struct Groups<'a> {
    table: &'a Table<'a>,
    reached: &'a Reached<'a>,
    heads: &'a [u32],
    sites: Option<&'a [u32]>,
}

/// Roles are fewer.
const ROLES: u32 = 16;

fn type_group(kind: super::kind::Kind) -> u32 {
    kind.id() * ROLES + kind.role() as u32
}

/// The number of a group's type.
pub(crate) fn type_of_group(group: u32) -> u32 {
    group / ROLES
}

impl Grouping for Groups<'_> {
    const SORTS: usize = 4;

    fn of(&self, ordinal: u32) -> [u32; 4] {
        let shape = self.reached.of[ordinal as usize];
        let site = self.sites.map_or(0, |s| s[ordinal as usize]);
        [type_group(self.table.kinds.get(ordinal)), self.heads[shape as usize], site, shape]
    }

    fn movable(&self, ordinal: u32) -> bool {
        self.table.kinds.get(ordinal).movable() && visible(self.reached.root_of(ordinal))
    }
}

impl Tables<'_> {
    /// Calls back with each block: number, address, bytes, and whether it is pymalloc's.
    fn each(&self, mut each: impl FnMut(u32, u64, u64, bool)) {
        let blocks = self.table.blocks;
        for pool in &blocks.pools {
            for (ordinal, address) in blocks.live(pool) {
                each(ordinal, address, u64::from(pool.size), true);
            }
        }
        for (i, c) in blocks.chunks.iter().enumerate() {
            each(blocks.first_chunk + i as u32, c.address, c.size, false);
        }
    }

    /// Bytes that a block was asked for, where that is known.
    fn asked(&self, ordinal: u32, size: u64) -> Option<u64> {
        let asked = u64::from(self.table.asked[ordinal as usize].load(Relaxed));
        // What debug hooks add behind was asked for by them.
        let behind = if self.table.front() > 0 { 8 } else { 0 };
        (asked > 0 && asked < u64::from(u32::MAX)).then(|| (asked + behind).min(size))
    }

    /// Rounding on resident pages, by owner of the heap.
    pub(crate) fn rounding(
        &self,
        ranges: &[crate::snapshot::HeapRange],
        owners: usize,
    ) -> Vec<u64> {
        let mut sums = vec![0; owners];
        let mut at = 0;
        let mut last = 0;
        self.each(|ordinal, address, size, _| {
            let Some(asked) = self.asked(ordinal, size).filter(|a| *a < size) else { return };
            if address < last {
                at = 0;
            }
            last = address;
            while ranges.get(at).is_some_and(|r| r.end <= address) {
                at += 1;
            }
            let Some(range) = ranges.get(at).filter(|r| r.start <= address) else { return };
            let (from, end) = (address + asked, address + size);
            // Most ends of blocks lie on one page with their beginning.
            let tally = self.image.residency.tally(from, end);
            sums[range.owner] += tally.resident;
        });
        sums
    }

    /// All tables.
    pub(crate) fn sums(
        &self,
        counts: &Counts,
        slack: &[u64],
        texts: &Records,
        one_in: u64,
        show: bool,
    ) -> Sums {
        let mut sums = Sums::default();
        let step = |n: u64| self.progress.reach(self.progress.total / 30 * (20 + n));
        let types = self.types(&mut sums);
        step(2);
        let heads: Vec<u32> =
            (0..self.reached.shapes.len() as u32).map(|s| self.reached.head_of(s)).collect();
        let by_site = self.sites.map(|s| self.by_site(s, &mut sums.pins));
        let (table, reached) = (self.table, self.reached);
        let by = Groups { table, reached, heads: &heads, sites: by_site.as_deref() };
        let pinned = pins(self.image, self.detail, table.blocks, &by, self.compacts);
        let [by_type, by_head, by_place, by_shape] = &pinned.groups[..] else { return sums };
        step(6);
        sums.compact = pinned.compact;
        sums.emptied.clone_from(&pinned.emptied);
        sums.pins.pinned = pinned.pinned;
        sums.pins.by_type = self.type_pins(by_type, &pinned.costs[0]);
        let owners = self.owners(by_head, by_shape, &heads);
        sums.pins.by_owner = self.owner_pins(&owners, by_head, &pinned.costs[1]);
        let map = self.map;
        sums.named = map.map(|m| named(self, m, owners, by_type, &heads, slack));
        let classes = pinned.classes.iter();
        sums.pins.by_class =
            classes.map(|(size, pin)| ClassPin { size: *size, pin: *pin }).collect();
        sums.pins
            .by_class
            .sort_by(|a, b| b.pin.pinned.cmp(&a.pin.pinned).then(a.size.cmp(&b.size)));
        sums.pins.by_site = self.sites.map(|s| site_pins(s, by_place));
        for (shape, pin) in by_shape.iter().enumerate() {
            if pin.count > 0 && self.reached.shapes.get(shape as u32).root == RootKind::Garbage {
                sums.garbage.blocks += pin.count;
                sums.garbage.bytes += pin.bytes;
                sums.garbage.pinned += pin.pinned;
            }
        }
        sums.slack = self.slack(counts, slack, &heads);
        step(7);
        sums.duplicates = self.duplicates(texts, one_in, &heads, show);
        sums.savings = savings::savings(self.chains, by_shape, &types, &self.as_tuples());
        for d in &sums.duplicates.worst {
            sums.savings.push(savings::intern(d));
        }
        for s in &sums.slack.dict.worst {
            sums.savings.push(savings::rebuild(s));
        }
        sums.savings.retain(|s| s.saved > 0);
        sums.savings.sort_by(|a, b| b.saved.cmp(&a.saved).then_with(|| a.of.cmp(&b.of)));
        sums.savings.truncate(MOST_PINS);
        sums
    }

    /// Types, and what is known of blocks. Returns each type's own sums by its number.
    fn types(&self, sums: &mut Sums) -> Vec<TypeTotal> {
        let all = self.table.types.all();
        let mut totals = vec![TypeTotal::default(); all.len() + 1];
        let mut garbage = vec![TypeTotal::default(); all.len() + 1];
        let mut asks: Vec<Option<(u64, bool)>> = vec![None; all.len() + 1];
        let o = &mut sums.objects;
        let mut garbage_objects = 0;
        self.each(|ordinal, _, size, pool| {
            let kind = self.table.kinds.get(ordinal);
            let total = &mut totals[kind.id() as usize];
            o.all.add(size);
            let coverage = &mut o.pymalloc;
            let pooled = if pool { size } else { 0 };
            match kind.role() {
                Role::Object => {
                    o.typed.add(size);
                    coverage.typed += pooled;
                    total.count += 1;
                    total.bytes += size;
                    if let Some(asked) = self.asked(ordinal, size) {
                        total.rounding += size - asked;
                        let same = &mut asks[kind.id() as usize];
                        *same = match *same {
                            None => Some((asked, true)),
                            Some((a, equal)) => Some((a, equal && a == asked)),
                        };
                    }
                    if kind.tracked() {
                        if !self.frozen.contains_key(&ordinal) {
                            o.tracked += 1;
                            total.tracked += 1;
                        }
                        if self.reached.is_garbage(ordinal) {
                            garbage_objects += 1;
                            let g = &mut garbage[kind.id() as usize];
                            g.count += 1;
                            g.bytes += size;
                            g.tracked += 1;
                        }
                    }
                }
                Role::FreeListed => {
                    o.free_listed.add(size);
                    coverage.free_listed += pooled;
                    total.free_listed += 1;
                }
                Role::Unknown => {
                    o.unknown.add(size);
                    coverage.unknown += pooled;
                }
                _ => {
                    o.owned.add(size);
                    coverage.owned += pooled;
                    total.buffers += size;
                }
            }
        });
        sums.garbage.objects = garbage_objects;
        for (i, t) in all.iter().enumerate() {
            totals[i + 1].name.clone_from(&t.name);
            garbage[i + 1].name.clone_from(&t.name);
            totals[i + 1].asks = asks[i + 1].filter(|(_, same)| *same).map(|(asked, _)| asked);
        }
        let kept = |totals: &[TypeTotal]| {
            let mut rows: Vec<_> = totals[1..]
                .iter()
                .filter(|t| t.count + t.buffers + t.free_listed > 0)
                .cloned()
                .collect();
            rows.sort_by(|a, b| {
                (b.bytes + b.buffers).cmp(&(a.bytes + a.buffers)).then_with(|| a.name.cmp(&b.name))
            });
            rows
        };
        let mut rows = merged(kept(&totals));
        for t in rows.split_off(rows.len().min(MOST_TYPES)) {
            sums.objects.other_types.count += 1;
            sums.objects.other_types.bytes += t.bytes + t.buffers;
        }
        sums.objects.types = rows;
        let mut rows = merged(kept(&garbage));
        rows.truncate(MOST_PINS);
        sums.garbage.by_type = rows;
        totals
    }

    fn type_pins(&self, by_type: &[Pin], costs: &[f64]) -> Vec<TypePin> {
        // Types of one name are one row.
        let mut sums: FxHashMap<String, (Pin, f64)> = FxHashMap::default();
        for (group, pin) in by_type.iter().enumerate().filter(|(_, p)| p.count > 0) {
            let (id, role) = (type_of_group(group as u32), group as u32 % ROLES);
            let (sum, cost) = sums.entry(self.chains.type_name(id | role << 20)).or_default();
            add(sum, cost, pin, costs[group]);
        }
        let mut rows: Vec<_> =
            sums.into_iter().map(|(name, (pin, _))| TypePin { name, pin }).collect();
        rows.sort_by(|a, b| b.pin.pinned.cmp(&a.pin.pinned).then_with(|| a.name.cmp(&b.name)));
        rows.truncate(MOST_PINS);
        rows
    }

    /// Names the heads that pin most, then those that have most.
    fn owners(&self, by_head: &[Pin], by_shape: &[Pin], heads: &[u32]) -> Owners {
        // The shape that pins most under each head.
        let mut chief: FxHashMap<u32, ShapeId> = FxHashMap::default();
        for (shape, pin) in by_shape.iter().enumerate().filter(|(_, p)| p.count > 0) {
            let best = chief.entry(heads[shape]).or_insert(shape as u32);
            if pin.pinned > by_shape[*best as usize].pinned {
                *best = shape as u32;
            }
        }
        let most = |n: usize, of: fn(&Pin) -> u64| {
            largest(by_head, n, of).into_iter().map(|(head, _)| head)
        };
        let mut owners = Owners::default();
        let mut by_text: FxHashMap<String, u16> = FxHashMap::default();
        for head in most(MOST_NAMED, |p| p.pinned).chain(most(MOST_OWNERS, |p| p.bytes)) {
            if owners.of_head.len() == MOST_OWNERS {
                break;
            }
            if owners.of_head.contains_key(&head) {
                continue;
            }
            let shape = chief.get(&head).copied().unwrap_or(head);
            let text = if shape == 0 { UNSEEN.to_owned() } else { self.chains.head(shape) };
            // Heads of one text are one owner.
            let index = *by_text.entry(text).or_insert_with_key(|text| {
                owners.named.push(Owner { head: text.clone(), shape });
                owners.named.len() as u16 - 1
            });
            owners.of_head.insert(head, index);
        }
        owners
    }

    fn owner_pins(&self, owners: &Owners, by_head: &[Pin], costs: &[f64]) -> Vec<OwnerPin> {
        let mut sums = vec![(Pin::default(), 0.0); owners.named.len()];
        for (head, pin) in by_head.iter().enumerate() {
            if let Some(index) = owners.of_head.get(&(head as u32)) {
                let (sum, cost) = &mut sums[usize::from(*index)];
                add(sum, cost, pin, costs[head]);
            }
        }
        let mut rows: Vec<_> = owners.named.iter().zip(sums).collect();
        rows.sort_by(|(a, (p, _)), (b, (q, _))| {
            q.pinned.cmp(&p.pinned).then_with(|| a.head.cmp(&b.head))
        });
        rows.truncate(MOST_PINS);
        let row = |(of, (pin, _)): (&Owner, (Pin, f64))| OwnerPin {
            owner: self.owner(of.shape),
            head: of.head.clone(),
            root: self.reached.shapes.get(of.shape).root,
            pin,
        };
        rows.into_iter().map(row).collect()
    }

    /// Bytes that the lists whose items are of a shape would take as tuples.
    fn as_tuples(&self) -> FxHashMap<ShapeId, u64> {
        let mut sums = FxHashMap::default();
        let head = GC_HEAD + self.table.types.forms.tuple_items as u64;
        self.each(|ordinal, _, _, _| {
            if self.table.kinds.get(ordinal).role() == Role::Items {
                let items = u64::from(self.table.next[ordinal as usize].load(Relaxed));
                let asked = head + 8 * items;
                // A block of pymalloc, else a chunk with its header.
                let block = if asked <= 512 { asked } else { asked + 8 }.next_multiple_of(16);
                *sums.entry(self.reached.of[ordinal as usize]).or_default() += block;
            }
        });
        sums
    }

    /// The site of each block: its index plus one.
    fn by_site(&self, sites: &Sites, pins: &mut Pins) -> Vec<u32> {
        let mut of = vec![0; self.table.kinds.len()];
        let front = self.table.front();
        self.each(|ordinal, address, size, _| match sites.of(address + front) {
            Some(site) => of[ordinal as usize] = site + 1,
            None => pins.without_site.add(size),
        });
        of
    }

    fn slack(&self, counts: &Counts, records: &[u64], heads: &[u32]) -> Slack {
        let mut worst: Vec<FxHashMap<u32, (ShapeId, Amount)>> = vec![FxHashMap::default(); SORTS];
        for record in records {
            let (ordinal, sort, bytes) = of_record(*record);
            let shape = self.reached.of[ordinal as usize];
            let of = worst[sort].entry(heads[shape as usize]);
            let of = of.or_insert((shape, Amount::default()));
            // Records stand in any order.
            of.0 = of.0.min(shape);
            of.1.add(bytes);
        }
        let of = |sort: Sort| {
            let mut slack = counts.of(sort);
            let mut rows: Vec<_> = worst[sort as usize].values().collect();
            rows.sort_by(|a, b| b.1.bytes.cmp(&a.1.bytes).then(a.0.cmp(&b.0)));
            rows.truncate(MOST_WORST);
            let row = |(shape, amount): &(ShapeId, Amount)| OwnerSlack {
                owner: self.owner(*shape),
                containers: amount.count,
                bytes: amount.bytes,
            };
            slack.worst = rows.into_iter().map(row).collect();
            slack
        };
        let mut slack = Slack {
            dict: of(Sort::Dict),
            list: of(Sort::List),
            set: of(Sort::Set),
            bytearray: of(Sort::ByteArray),
            deque: of(Sort::Deque),
            str_utf8: of(Sort::StrUtf8),
        };
        let mut deques = 0;
        self.each(|ordinal, _, _, _| {
            let kind = self.table.kinds.get(ordinal);
            let of_deque = self.reached.type_of(kind).is_some_and(|t| t.sort == TypeSort::Deque);
            deques += u64::from(of_deque && matches!(kind.role(), Role::Block | Role::Buffer));
        });
        slack.deque.containers = counts.deques;
        slack.deque.held = deques * deque::ITEMS * 8;
        slack.deque.bytes = slack.deque.held.saturating_sub(counts.deque_items.saturating_mul(8));
        slack
    }

    pub(crate) fn owner(&self, shape: ShapeId) -> String {
        if shape == 0 { UNSEEN.into() } else { self.chains.chain(shape) }
    }

    /// Copies of equal texts, by what was kept of them: pairs of a number and a hash.
    fn duplicates(&self, texts: &Records, one_in: u64, heads: &[u32], show: bool) -> Duplicates {
        // How often each content is there, and the first block that has it: pairs stand in any order.
        let mut copies: FxHashMap<u64, (u32, u32)> = FxHashMap::default();
        for pair in texts.chunks_exact(2) {
            let of = copies.entry(pair[1]).or_insert((0, u32::MAX));
            *of = (of.0 + 1, of.1.min(pair[0] as u32));
        }
        let mut total = Amount::default();
        let mut owners: FxHashMap<u32, Copies> = FxHashMap::default();
        for pair in texts.chunks_exact(2) {
            let (count, first) = copies[&pair[1]];
            if count < 2 {
                continue;
            }
            let ordinal = pair[0] as u32;
            let shape = self.reached.of[ordinal as usize];
            let head = heads[shape as usize];
            let of = owners.entry(head).or_insert(Copies { head, shape, ..Default::default() });
            of.shape = of.shape.min(shape);
            // Of equally frequent ones the first.
            if (count, Reverse(ordinal)) > (of.most, Reverse(of.example)) {
                (of.most, of.example) = (count, ordinal);
            }
            if ordinal != first {
                let size = self.table.blocks.block(ordinal).map_or(0, |b| b.1);
                total.add(size);
                of.copies.add(size);
            }
        }
        let mut worst: Vec<_> = owners.into_values().filter(|o| o.copies.count > 0).collect();
        worst.sort_by(|a, b| b.copies.bytes.cmp(&a.copies.bytes).then(a.shape.cmp(&b.shape)));
        worst.truncate(MOST_WORST);
        let mut contents: Vec<FxHashSet<u64>> = vec![FxHashSet::default(); worst.len()];
        for pair in texts.chunks_exact(2).filter(|p| copies[&p[1]].0 > 1) {
            let head = heads[self.reached.of[pair[0] as usize] as usize];
            if let Some(i) = worst.iter().position(|o| o.head == head) {
                contents[i].insert(pair[1]);
            }
        }
        for (of, contents) in worst.iter_mut().zip(contents) {
            of.different = contents.len() as u64;
        }
        let row = |of: &Copies| OwnerDuplicates {
            owner: self.owner(of.shape),
            copies: of.copies.count * one_in,
            bytes: of.copies.bytes * one_in,
            different: of.different * one_in,
            example: if show { self.chains.content(of.example) } else { None },
        };
        Duplicates {
            looked_at: Amount::default(),
            copies: Amount { count: total.count * one_in, bytes: total.bytes * one_in },
            one_in,
            worst: worst.iter().map(row).collect(),
        }
    }
}

/// Copies under one head.
#[derive(Default)]
struct Copies {
    head: ShapeId,
    shape: ShapeId,
    copies: Amount,
    different: u64,
    /// How often the most frequent text is there, and one that has it.
    most: u32,
    example: u32,
}

/// Types of one name are one row: a class may have been defined anew.
fn merged(rows: Vec<TypeTotal>) -> Vec<TypeTotal> {
    let mut by_name: FxHashMap<String, usize> = FxHashMap::default();
    let mut merged: Vec<TypeTotal> = Vec::new();
    for t in rows {
        match by_name.get(&t.name) {
            Some(i) => {
                let m = &mut merged[*i];
                m.count += t.count;
                m.bytes += t.bytes;
                m.rounding += t.rounding;
                m.buffers += t.buffers;
                m.tracked += t.tracked;
                m.free_listed += t.free_listed;
                m.asks = m.asks.filter(|a| t.asks == Some(*a));
            }
            None => {
                by_name.insert(t.name.clone(), merged.len());
                merged.push(t);
            }
        }
    }
    merged
}

/// The first `most` by some measure.
fn largest(pins: &[Pin], most: usize, of: fn(&Pin) -> u64) -> Vec<(u32, Pin)> {
    let all = pins.iter().enumerate().filter(|(_, p)| p.count > 0);
    let mut rows: Vec<_> = all.map(|(i, p)| (i as u32, *p)).collect();
    rows.sort_by_key(|(i, p)| (Reverse(of(p)), *i));
    rows.truncate(most);
    rows
}

/// Those that pin most.
fn most_pinning(pins: &[Pin]) -> Vec<(u32, Pin)> {
    largest(pins, MOST_NAMED, |p| p.pinned)
}

/// Adds a group to a row, and its cost to the row's.
fn add(a: &mut Pin, sum: &mut f64, b: &Pin, cost: f64) {
    *sum += cost;
    a.count += b.count;
    a.bytes += b.bytes;
    a.pinned = sum.max(0.0).round() as u64;
    a.gone += b.gone;
    a.packed += b.packed;
    a.moved += b.moved;
}

fn site_pins(sites: &Sites, by_place: &[Pin]) -> Vec<SitePin> {
    let rows = most_pinning(by_place).into_iter().filter(|(place, _)| *place > 0);
    let mut rows: Vec<_> = rows
        .map(|(place, pin)| {
            let (file, line) = sites.places[place as usize - 1].clone();
            SitePin { file, line, pin }
        })
        .collect();
    rows.truncate(MOST_PINS);
    rows
}
