//! What will happen in a world, in order of time. Frames of one direction almost always arrive in the order in which they were sent,
//! so each direction has a queue; what is overtaken, and what is no frame, waits in a heap. Buffers of frames are used again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::base::machine::{ConnId, OpenError, OpenFile};
use crate::base::time::Instant;

use super::clerk::SimClerkAnswer;
use super::disk::Version;
use super::frame::HEADERS;
use super::net::FrameDirection;

/// A frame on its way.
#[derive(Clone)]
pub enum SimPacket {
    Whole(Vec<u8>),
    /// To the clients: the headers of a DATA frame, and where its block stands. The bytes are laid in when it arrives, so that what is
    /// under way stays in a processor's nearest cache.
    Block {
        headers: [u8; HEADERS],
        version: Version,
        offset: u64,
        len: u16,
    },
}

pub enum QueuedInput {
    Frame {
        way: FrameDirection,
        packet: SimPacket,
    },
    Opened {
        token: u64,
        answer: Result<OpenFile, OpenError>,
    },
    Cold {
        token: u64,
    },
    Warm {
        token: u64,
    },
    Changed {
        token: u64,
    },
    Bytes {
        token: u64,
        bytes: Vec<u8>,
    },
    /// Something may be done for a connection.
    Conn(ConnId),
    /// A task of the clerk's has come to its end.
    Done {
        token: u64,
        answer: SimClerkAnswer,
    },
    /// What the kernel has lost is counted.
    Counted,
    Route {
        token: u64,
    },
    /// The journal's disk has done what it was asked.
    JournalDone,
}

/// When, and which of those at the same time: the first that was put in.
type QueueOrder = (Instant, u64);

struct QueuedEvent {
    turn: QueueOrder,
    what: QueuedInput,
}

impl PartialEq for QueuedEvent {
    fn eq(&self, other: &QueuedEvent) -> bool {
        self.turn == other.turn
    }
}

impl Eq for QueuedEvent {}

impl PartialOrd for QueuedEvent {
    fn partial_cmp(&self, other: &QueuedEvent) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QueuedEvent {
    fn cmp(&self, other: &QueuedEvent) -> std::cmp::Ordering {
        self.turn.cmp(&other.turn)
    }
}

#[derive(Default)]
pub struct EventQueue {
    ways: [VecDeque<(QueueOrder, SimPacket)>; 2],
    others: BinaryHeap<Reverse<QueuedEvent>>,
    sequence: u64,
    spare: Vec<Vec<u8>>,
}

impl EventQueue {
    /// Room of a new buffer: a full frame.
    const FRAME: usize = 1536;
    /// Buffers that wait to be used again.
    const SPARE_MAX: usize = 4096;

    pub fn push(&mut self, at: Instant, what: QueuedInput) {
        self.sequence += 1;
        let turn = (at, self.sequence);
        match what {
            QueuedInput::Frame { way, packet } if self.ways[way as usize].back().is_none_or(|(last, _)| *last <= turn) => {
                self.ways[way as usize].push_back((turn, packet));
            }
            what => self.others.push(Reverse(QueuedEvent { turn, what })),
        }
    }

    /// The next event's turn, and where it waits: a direction, or the heap.
    fn first(&self) -> Option<(QueueOrder, usize)> {
        let ways = self.ways.iter().map(|way| way.front().map(|(turn, _)| *turn));
        let all = ways.chain(std::iter::once(self.others.peek().map(|Reverse(event)| event.turn)));
        all.enumerate().filter_map(|(place, turn)| Some((turn?, place))).min()
    }

    pub fn next(&self) -> Option<Instant> {
        self.first().map(|((at, _), _)| at)
    }

    pub fn pop(&mut self) -> Option<QueuedInput> {
        let (_, place) = self.first()?;
        let way = if place == FrameDirection::ToServer as usize { FrameDirection::ToServer } else { FrameDirection::ToClients };
        match self.ways.get_mut(place) {
            Some(frames) => frames.pop_front().map(|(_, packet)| QueuedInput::Frame { way, packet }),
            None => self.others.pop().map(|Reverse(event)| event.what),
        }
    }

    /// Forgets everything that is no frame.
    pub fn keep_frames(&mut self) {
        self.others.retain(|Reverse(event)| matches!(event.what, QueuedInput::Frame { .. }));
    }

    /// An empty buffer.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(EventQueue::FRAME))
    }

    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < EventQueue::SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_by_time_and_then_by_turn() {
        let mut queue = EventQueue::default();
        let times = [(3, 0), (5, 1), (3, 1), (4, 0), (4, 2), (5, 0), (1, 2), (5, 1), (2, 0)];
        for (n, (at, kind)) in times.into_iter().enumerate() {
            let packet = SimPacket::Whole(vec![n as u8]);
            let what = match kind {
                0 => QueuedInput::Frame { way: FrameDirection::ToServer, packet },
                1 => QueuedInput::Frame { way: FrameDirection::ToClients, packet },
                _ => QueuedInput::Cold { token: n as u64 },
            };
            queue.push(Instant::from_millis(at), what);
        }
        assert_eq!(queue.next(), Some(Instant::from_millis(1)));
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop())
            .map(|what| match what {
                QueuedInput::Frame { packet: SimPacket::Whole(bytes), .. } => bytes[0].into(),
                QueuedInput::Cold { token } => token,
                _ => u64::MAX,
            })
            .collect();
        assert_eq!(order, [6, 8, 0, 2, 3, 4, 1, 5, 7]);
        assert_eq!(queue.next(), None);
    }
}
