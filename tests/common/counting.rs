//! An allocator that counts this thread's calls while it is switched on, and the bytes that they ask for. A test that
//! wants it takes this file as a module.

#![allow(unsafe_code, reason = "an allocator is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    pub static COUNTING: Cell<bool> = const { Cell::new(false) };
    pub static CALLS: Cell<u64> = const { Cell::new(0) };
    pub static BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counter;

fn count(bytes: usize) {
    if COUNTING.get() {
        CALLS.set(CALLS.get() + 1);
        BYTES.set(BYTES.get() + bytes);
    }
}

// SAFETY: hands everything on to the system's allocator, unchanged; the thread's counters have no destructor and allocate nothing.
unsafe impl GlobalAlloc for Counter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counter = Counter;
