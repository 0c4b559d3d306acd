//! Buffers that connections share: one holds a buffer only while bytes wait in it.

use std::collections::VecDeque;

/// Buffers of one size, all allocated at start, and the connections that wait for one.
pub struct Pool {
    free: Vec<Box<[u8]>>,
    waiting: VecDeque<u32>,
}

impl Pool {
    pub fn new(buffers: usize, size: usize, conns: usize) -> Pool {
        Pool { free: (0..buffers).map(|_| vec![0; size].into()).collect(), waiting: VecDeque::with_capacity(conns) }
    }

    /// Buffers that are in nobody's hands.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// Whose turn it is, if there is a buffer for it.
    pub fn next(&mut self) -> Option<u32> {
        if self.free.is_empty() { None } else { self.waiting.pop_front() }
    }

    /// A connection waits for a buffer.
    pub fn wait(&mut self, slot: u32) {
        if self.waiting.len() < self.waiting.capacity() {
            self.waiting.push_back(slot);
        }
    }
}

/// Bytes that wait, in a buffer of a pool's while there are any.
#[derive(Default)]
pub struct Buffer {
    bytes: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().and_then(|bytes| bytes.get(self.start..self.end)).unwrap_or_default()
    }

    /// Whether nothing more fits, even when what is there moves to the front.
    pub fn is_full(&self) -> bool {
        self.bytes.as_ref().is_some_and(|bytes| self.end - self.start == bytes.len())
    }

    /// Free room behind what is there; takes a buffer where there is none. None: the pool has none either.
    pub fn room(&mut self, pool: &mut Pool) -> Option<&mut [u8]> {
        if self.bytes.is_none() {
            self.bytes = Some(pool.free.pop()?);
        }
        let bytes = self.bytes.as_deref_mut()?;
        if self.start > 0 {
            bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        bytes.get_mut(self.end..)
    }

    /// So many bytes were laid into the room.
    pub fn filled(&mut self, len: usize) {
        self.end += len;
    }

    /// Puts bytes behind those that are there. False: there is no room for them.
    pub fn put(&mut self, pool: &mut Pool, parts: [&[u8]; 2]) -> bool {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        let Some(room) = self.room(pool).and_then(|room| room.get_mut(..len)) else { return false };
        let (first, second) = room.split_at_mut(parts[0].len());
        first.copy_from_slice(parts[0]);
        second.copy_from_slice(parts[1]);
        self.filled(len);
        true
    }

    /// Forgets bytes at the front; gives the buffer back with the last of them.
    pub fn consume(&mut self, len: usize, pool: &mut Pool) {
        self.start = (self.start + len).min(self.end);
        self.release(pool);
    }

    /// Gives the buffer back where nothing waits in it.
    pub fn release(&mut self, pool: &mut Pool) {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            pool.free.extend(self.bytes.take());
        }
    }
}
