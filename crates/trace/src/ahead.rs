//! Events read ahead: one thread unpacks and decodes while another looks at what came of it.
//!
//! Invariant: the order is that of [`crate::Events`]; memory is bounded by the batches that are under way.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::event::Event;
use crate::reader::Trace;

/// Events in a batch: it stays in the nearer caches on its way from one core to another.
const BATCH: usize = 1 << 10;
/// Batches that wait at most.
const WAITING: usize = 16;

/// Stored bytes for which no thread is started.
const SMALL: u64 = 256 << 10;

/// Events, and how many stored bytes of how many were read by then.
#[derive(Default)]
struct Batch {
    events: Vec<(u16, Event)>,
    progress: Option<(u64, u64)>,
}

/// Hands each event of a trace to `sink`, in order, with its lane; returns what was found damaged. `progress` hears how many
/// stored bytes of how many are done.
pub(crate) fn each(
    trace: &Trace,
    progress: &dyn Fn(u64, u64),
    sink: &mut impl FnMut(u16, Event),
) -> Vec<String> {
    let alone = std::thread::available_parallelism().map_or(1, usize::from) == 1;
    if alone || trace.stored() < SMALL {
        let mut events = trace.events();
        events.each(progress, sink);
        return events.damage().to_vec();
    }
    let (full, batches) = sync_channel(WAITING);
    let (empty, used) = sync_channel(2 * WAITING);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || read(trace, &full, &used));
        for Batch { mut events, progress: done } in batches {
            if let Some((done, total)) = done {
                progress(done, total);
            }
            for (lane, event) in events.drain(..) {
                sink(lane, event);
            }
            // Where its reader is done, nobody wants it.
            let _ = empty.try_send(events);
        }
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn read(
    trace: &Trace,
    full: &SyncSender<Batch>,
    used: &Receiver<Vec<(u16, Event)>>,
) -> Vec<String> {
    let mut batch = Batch::default();
    let reached = std::cell::Cell::new(None);
    let mut events = trace.events();
    events.each(&|done, total| reached.set(Some((done, total))), &mut |lane, event| {
        batch.events.push((lane, event));
        if batch.events.len() == BATCH {
            let events = used.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
            let mut sent = std::mem::replace(&mut batch, Batch { events, progress: None });
            sent.progress = reached.take();
            // Who looks at them has gone only if it panicked, and says so itself.
            let _ = full.send(sent);
        }
    });
    batch.progress = reached.take();
    let _ = full.send(batch);
    events.damage().to_vec()
}
