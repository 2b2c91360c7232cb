//! Reading the events of a lane, in its order.
//!
//! Invariant: bytes that are no event end the reading of their lane, and are said; nothing of them is guessed.

use crate::Model;
use crate::event::{
    ALIGNED_BITS, ALLOC, Domain, ESCAPE, Event, FIRST_NODE, LARGEST, LOW_BITS, MOVED, escape,
};
use crate::model::Prediction;
use crate::varint::{self, unzigzag};

/// No block is larger: an address has fewer bits.
const LARGEST_BLOCK: u64 = 1 << 57;
/// What a mark says at most.
const LONGEST_MARK: u64 = 4096;
/// No stack has a larger number.
const MOST_NODES: u32 = 1 << 28;

/// Reads the events of one lane.
#[derive(Default)]
pub struct Decoder {
    model: Box<Model>,
    nodes: u32,
    ns: u64,
    stamp: u64,
}

/// Bytes that are no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no event begins with these bytes")]
pub struct NoEvent;

impl Decoder {
    /// The event at `at`, which moves on. `bytes` may be padded behind `end`, where the last event must end.
    #[inline(always)]
    pub fn next(&mut self, bytes: &[u8], at: &mut usize, end: usize) -> Result<Event, NoEvent> {
        let head: u64 = match bytes.get(*at..*at + 8) {
            Some(head) => u64::from_le_bytes(head.try_into().map_err(|_| NoEvent)?),
            None => {
                let mut head = [0; 8];
                let rest = bytes.get(*at..).unwrap_or_default();
                head[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(head)
            }
        };
        let kind = head & 3;
        if kind == ESCAPE {
            let event = self.escape(bytes.get(..end).ok_or(NoEvent)?, at).ok_or(NoEvent)?;
            return Ok(event);
        }
        let length = (head >> 2 & 7) as usize + 1;
        if *at + length > end {
            return Err(NoEvent);
        }
        *at += length;
        let number = head & (u64::MAX >> (64 - 8 * length as u32));
        if kind != ALLOC {
            let difference = unzigzag(number >> 5) << ALIGNED_BITS;
            let address = self.model.last_free.wrapping_add(difference as u64);
            self.model.last_free = address;
            return Ok(Event::Free { address, moved: kind == MOVED });
        }
        let (difference, surprise) = (unzigzag(number >> 6) << ALIGNED_BITS, head & 0x20 != 0);
        let expected = *self.model.expected();
        let (mut node, mut size, mut domain) =
            (expected.node(), expected.size(), expected.domain());
        if surprise {
            let flags = *bytes.get(*at).filter(|_| *at < end).ok_or(NoEvent)?;
            *at += 1;
            let rest = varint::get(bytes, at).filter(|n| n >> 59 == 0).ok_or(NoEvent)?;
            let first = rest << LOW_BITS | u64::from(flags >> 3);
            let (stack, other) = (flags & 1 != 0, flags & 2 != 0);
            if other {
                size = Some(first).filter(|s| *s <= LARGEST).ok_or(NoEvent)? as u32;
                domain = if flags >> 2 & 1 == 0 { Domain::Python } else { Domain::Malloc };
            }
            if stack {
                let step = match other {
                    true => varint::get(bytes, at).ok_or(NoEvent)?,
                    false => first,
                };
                let told = i64::from(self.model.last_node).wrapping_add(unzigzag(step));
                node = u32::try_from(told).map_err(|_| NoEvent)?;
            }
            if *at > end {
                return Err(NoEvent);
            }
            *self.model.expected() = Prediction::new(node, size, domain);
        }
        let (place, step) = self.model.place(size);
        let address = place.wrapping_add(difference as u64);
        *place = address.wrapping_add(step);
        self.model.learn(node);
        Ok(Event::Alloc { address, size: u64::from(size), node, domain })
    }

    #[cold]
    fn escape(&mut self, bytes: &[u8], at: &mut usize) -> Option<Event> {
        let number = *bytes.get(*at)? >> 2;
        *at += 1;
        let mut get = || varint::get(bytes, at);
        Some(match number {
            escape::NODE => {
                let (parent, code, offset) = (get()?, get()?, get()?);
                let node = FIRST_NODE + self.nodes;
                if parent >= u64::from(node) || self.nodes >= MOST_NODES {
                    return None;
                }
                self.nodes += 1;
                let (code, offset) = (u32::try_from(code).ok()?, u32::try_from(offset).ok()?);
                Event::Node { node, parent: parent as u32, code, offset }
            }
            escape::THREAD => Event::Thread(u32::try_from(get()?).ok()?),
            escape::TIME => {
                self.ns = self.ns.checked_add(get()?.checked_mul(1000)?)?;
                Event::Time(self.ns)
            }
            escape::STAMP => {
                self.stamp = self.stamp.checked_add(get()?)?;
                Event::Stamp(self.stamp)
            }
            escape::GC_START => Event::GcStart(u8::try_from(get()?).ok()?),
            escape::GC_STOP => Event::GcStop(u8::try_from(get()?).ok()?, get()?, get()?),
            escape::ARENA_BORN => Event::ArenaBorn(get()?, get()?),
            escape::ARENA_DIED => Event::ArenaDied(get()?, get()?),
            escape::RSS => Event::Rss(get()?.checked_mul(4096)?),
            escape::MAPPED => Event::Mapped(get()?, get()?, u32::try_from(get()?).ok()?),
            escape::UNMAPPED => Event::Unmapped(get()?, get()?),
            escape::FORKED => Event::Forked(u32::try_from(get()?).ok()?),
            escape::ALLOC => {
                let (address, size) = (get()?, get().filter(|s| *s <= LARGEST_BLOCK)?);
                let node = u32::try_from(get()?).ok()?;
                let domain = match get()? {
                    0 => Domain::Python,
                    1 => Domain::Malloc,
                    _ => return None,
                };
                Event::Alloc { address, size, node, domain }
            }
            escape::KEPT => Event::Kept,
            escape::ENDING => Event::Ending,
            escape::FREE => Event::Free { address: get()?, moved: get()? == 1 },
            escape::MARK => {
                let length = get().filter(|n| *n <= LONGEST_MARK)? as usize;
                let text = bytes.get(*at..*at + length)?;
                *at += length;
                Event::Mark(String::from_utf8_lossy(text).into_owned())
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::encode::{self, ROOM};

    fn events() -> impl Strategy<Value = Event> {
        let address = prop_oneof![
            4 => (0u64..1 << 20).prop_map(|a| 0x7f00_0000_0000 + a * 16),
            1 => any::<u64>().prop_map(|a| a >> 17),
        ];
        let size = prop_oneof![4 => 0u64..600, 1 => any::<u64>().prop_map(|s| s >> 20)];
        let domain = prop_oneof![Just(Domain::Python), Just(Domain::Malloc)];
        prop_oneof![
            (address.clone(), size, 0u32..50, domain).prop_map(|(address, size, node, domain)| {
                Event::Alloc { address, size, node, domain }
            }),
            (address, any::<bool>()).prop_map(|(address, moved)| Event::Free { address, moved }),
            any::<u32>().prop_map(Event::Thread),
        ]
    }

    fn written(events: &[Event]) -> Vec<u8> {
        let mut model = Model::default();
        let mut bytes = Vec::new();
        for event in events {
            let mut room = [0; ROOM];
            let n = match *event {
                Event::Alloc { address, size, node, domain } => {
                    encode::alloc(&mut model, &mut room, address, size, node, domain)
                }
                Event::Free { address, moved } => {
                    encode::free(&mut model, &mut room, address, moved)
                }
                Event::Thread(tid) => encode::numbers(&mut room, escape::THREAD, &[tid.into()]),
                _ => unreachable!(),
            };
            bytes.extend(&room[..n]);
        }
        bytes
    }

    proptest! {
        #[test]
        fn events_come_back(events in prop::collection::vec(events(), 0..300)) {
            let bytes = written(&events);
            let (mut decoder, mut at) = (Decoder::default(), 0);
            for event in &events {
                prop_assert_eq!(&decoder.next(&bytes, &mut at, bytes.len()).unwrap(), event);
            }
            prop_assert_eq!(at, bytes.len());
        }

        #[test]
        fn arbitrary_bytes_are_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let (mut decoder, mut at) = (Decoder::default(), 0);
            while at < bytes.len() && decoder.next(&bytes, &mut at, bytes.len()).is_ok() {}
            prop_assert!(at <= bytes.len() + 8);
        }
    }

    #[test]
    fn a_cut_event_is_none() {
        let all = [Event::Alloc {
            address: 0x7f12_3456_7890,
            size: 100,
            node: 9,
            domain: Domain::Malloc,
        }];
        let bytes = written(&all);
        for end in 0..bytes.len() {
            let decoded = Decoder::default().next(&bytes[..end], &mut 0, end);
            assert!(decoded.is_err() || end == 0, "{end}");
        }
    }
}
