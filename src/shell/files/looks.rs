//! Looks at paths that are under way, and the requests that wait for each: any number of requests for one path are one look.

use std::collections::VecDeque;

use crate::base::limits::FILE_NAME_MAX;
use crate::base::machine::{FileId, OpenError};
use crate::base::rng::mix;
use crate::base::time::Instant;

use super::LOOK;

/// Different paths at a time: a crowd of boot loaders that each try names of their own.
pub const LOOKS: usize = 1024;
/// Requests that wait.
const WAITERS: usize = 8192;
const NONE: u16 = u16::MAX;

const _: () = assert!(LOOKS <= WAITERS && WAITERS < NONE as usize);

/// What a look came to. A file that was found is held in use until all who waited have it.
pub type OpenResult = Result<FileId, OpenError>;

/// A folder of the root, by the hash of its name; files that are in the root itself are in one too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folder(u64);

impl Folder {
    /// The root itself.
    pub const ROOT: Folder = Folder(1);

    /// That of a path, as far as its text tells.
    pub fn of(path: &[u8]) -> Folder {
        let (mut depth, mut top) = (0_usize, &b""[..]);
        for name in path.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => depth = depth.saturating_sub(1),
                name => {
                    top = if depth == 0 { name } else { top };
                    depth += 1;
                }
            }
        }
        let top = if depth > 1 { top } else { b"" };
        Folder(hash(top))
    }
}

struct FileLook {
    path: [u8; FILE_NAME_MAX],
    len: usize,
    hash: u64,
    folder: Folder,
    since: Instant,
    found: Option<OpenResult>,
    /// It is over; else what was found is what it was before.
    over: bool,
    /// It stands in `ready`.
    queued: bool,
    first: u16,
    last: u16,
}

#[derive(Clone, Copy)]
struct LookWaiter {
    token: u64,
    next: u16,
}

/// What comes of those that are ready.
pub enum LookDelivery {
    Waiter {
        token: u64,
        found: OpenResult,
    },
    /// Nobody waits for it any more.
    Served(OpenResult),
}

pub struct Looks {
    looks: Box<[FileLook]>,
    free: Vec<u16>,
    active: Vec<u16>,
    ready: VecDeque<u16>,
    waiters: Box<[LookWaiter]>,
    spare: u16,
}

fn hash(path: &[u8]) -> u64 {
    path.iter().fold(1, |hash, &byte| mix(hash ^ u64::from(byte)))
}

impl Default for Looks {
    fn default() -> Looks {
        let look = |_| FileLook {
            path: [0; FILE_NAME_MAX],
            len: 0,
            hash: 0,
            folder: Folder::ROOT,
            since: Instant::ZERO,
            found: None,
            over: false,
            queued: false,
            first: NONE,
            last: NONE,
        };
        let waiter = |at: usize| LookWaiter { token: 0, next: if at + 1 < WAITERS { at as u16 + 1 } else { NONE } };
        Looks {
            looks: (0..LOOKS).map(look).collect(),
            free: (0..LOOKS as u16).rev().collect(),
            active: Vec::with_capacity(LOOKS),
            ready: VecDeque::with_capacity(LOOKS),
            waiters: (0..WAITERS).map(waiter).collect(),
            spare: 0,
        }
    }
}

impl Looks {
    fn find(&self, path: &[u8]) -> Option<u16> {
        let hash = hash(path);
        let is_it = |at: &&u16| {
            let look = &self.looks[usize::from(**at)];
            look.hash == hash && !look.over && look.path.get(..look.len) == Some(path)
        };
        self.active.iter().find(is_it).copied()
    }

    /// Whether a look at this path has been under way for too long: then what was known of it is good enough.
    pub fn is_overdue(&self, now: Instant, path: &[u8]) -> bool {
        self.find(path).is_some_and(|at| now.since(self.looks[usize::from(at)].since) >= LOOK)
    }

    /// Waits for a look at a path. Gives the look if it is a new one, which is to be done; an error when there is no room.
    pub fn wait(&mut self, now: Instant, token: u64, path: &[u8]) -> Result<Option<u16>, OpenError> {
        if self.spare == NONE {
            return Err(OpenError::Busy);
        }
        let (at, new) = match self.find(path) {
            Some(at) => (at, None),
            None => {
                let at = self.begin(now, path).ok_or(OpenError::Busy)?;
                (at, Some(at))
            }
        };
        let waiter = self.spare;
        let place = &mut self.waiters[usize::from(waiter)];
        self.spare = std::mem::replace(&mut place.next, NONE);
        place.token = token;
        let look = &mut self.looks[usize::from(at)];
        match look.last {
            NONE => look.first = waiter,
            last => self.waiters[usize::from(last)].next = waiter,
        }
        look.last = waiter;
        Ok(new)
    }

    fn begin(&mut self, now: Instant, path: &[u8]) -> Option<u16> {
        let at = *self.free.last()?;
        let look = &mut self.looks[usize::from(at)];
        look.path.get_mut(..path.len())?.copy_from_slice(path);
        (look.len, look.hash, look.folder, look.since) = (path.len(), hash(path), Folder::of(path), now);
        (look.found, look.over, look.queued) = (None, false, false);
        self.free.pop();
        self.active.push(at);
        Some(at)
    }

    pub fn path(&self, at: u16) -> &[u8] {
        let look = &self.looks[usize::from(at)];
        look.path.get(..look.len).unwrap_or_default()
    }

    pub fn folder(&self, at: u16) -> Folder {
        self.looks[usize::from(at)].folder
    }

    /// Answers those that wait with what there is; with `over` the look is over. Gives the answer that they were to get before.
    pub fn found(&mut self, at: u16, found: OpenResult, over: bool) -> Option<OpenResult> {
        let look = &mut self.looks[usize::from(at)];
        look.over = over;
        if !std::mem::replace(&mut look.queued, true) {
            self.ready.push_back(at);
        }
        look.found.replace(found)
    }

    /// A look that is overdue, for which somebody waits.
    pub fn overdue(&self, now: Instant) -> impl Iterator<Item = u16> + '_ {
        let is_it = move |at: &u16| {
            let look = &self.looks[usize::from(*at)];
            !look.queued && look.first != NONE && now.since(look.since) >= LOOK
        };
        self.active.iter().copied().filter(is_it)
    }

    /// Whether there is something to tell.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next one that can be answered.
    pub fn next(&mut self) -> Option<LookDelivery> {
        loop {
            let at = *self.ready.front()?;
            let look = &mut self.looks[usize::from(at)];
            let Some(found) = look.found else {
                self.ready.pop_front();
                look.queued = false;
                continue;
            };
            if look.first == NONE {
                self.ready.pop_front();
                (look.found, look.queued) = (None, false);
                if look.over {
                    self.active.retain(|active| *active != at);
                    self.free.push(at);
                }
                return Some(LookDelivery::Served(found));
            }
            let waiter = look.first;
            let place = &mut self.waiters[usize::from(waiter)];
            look.first = std::mem::replace(&mut place.next, self.spare);
            if look.first == NONE {
                look.last = NONE;
            }
            self.spare = waiter;
            return Some(LookDelivery::Waiter { token: place.token, found });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(looks: &mut Looks) -> Vec<(u64, OpenResult)> {
        let mut told = Vec::new();
        while let Some(next) = looks.next() {
            if let LookDelivery::Waiter { token, found } = next {
                told.push((token, found));
            }
        }
        told
    }

    #[test]
    fn a_path_is_in_one_folder_of_the_root_however_it_is_written() {
        for path in ["img/a", "/img/a", "./img//b/c", "../img/a", "efi/../img/a", "efi/x/../../img/a"] {
            assert_eq!(Folder::of(path.as_bytes()), Folder::of(b"img/x"), "{path}");
        }
        for path in ["", "a", "/a", "./a", "img/../a", "img"] {
            assert_eq!(Folder::of(path.as_bytes()), Folder::ROOT, "{path}");
        }
        assert_ne!(Folder::of(b"img/a"), Folder::of(b"efi/a"));
    }

    #[test]
    fn one_look_for_all_who_ask_and_each_hears_of_it() {
        let (mut looks, now, file) = (Looks::default(), Instant::ZERO, FileId::from_u64(3));
        let first = looks.wait(now, 1, b"a").unwrap().unwrap();
        assert_eq!(looks.wait(now, 2, b"a"), Ok(None));
        let other = looks.wait(now, 3, b"b").unwrap().unwrap();
        assert_eq!((looks.path(first), looks.path(other)), (&b"a"[..], &b"b"[..]));
        looks.found(other, Err(OpenError::NotFound), true);
        assert_eq!(all(&mut looks), [(3, Err(OpenError::NotFound))]);
        looks.found(first, Ok(file), true);
        // Who comes now wants a look of their own.
        assert!(looks.wait(now, 4, b"a").unwrap().is_some());
        assert_eq!(all(&mut looks), [(1, Ok(file)), (2, Ok(file))]);
        assert_eq!(looks.active.len(), 1);
    }

    #[test]
    fn who_waits_too_long_is_told_what_was_known() {
        let (mut looks, file) = (Looks::default(), FileId::from_u64(3));
        let at = looks.wait(Instant::ZERO, 1, b"a").unwrap().unwrap();
        assert_eq!(looks.overdue(Instant::from_millis(499)).count(), 0);
        assert_eq!(looks.overdue(Instant::from_millis(500)).collect::<Vec<_>>(), [at]);
        looks.found(at, Ok(file), false);
        assert_eq!(all(&mut looks), [(1, Ok(file))]);
        assert!(looks.is_overdue(Instant::from_millis(600), b"a"), "it is still under way");
        assert_eq!(looks.wait(Instant::from_millis(600), 2, b"a"), Ok(None));
        looks.found(at, Err(OpenError::NotFound), true);
        assert_eq!(all(&mut looks), [(2, Err(OpenError::NotFound))]);
        assert_eq!((looks.active.len(), looks.free.len()), (0, LOOKS));
    }

    #[test]
    fn a_crowd_beyond_all_room_is_refused_and_nothing_is_lost() {
        let mut looks = Looks::default();
        for round in 0..3 {
            let mut taken: u64 = 0;
            for n in 0..2 * WAITERS as u64 {
                let path = format!("{}", n % (LOOKS as u64 + 10));
                taken += u64::from(looks.wait(Instant::ZERO, n, path.as_bytes()).is_ok());
            }
            assert_eq!((taken, looks.active.len()), (WAITERS as u64, LOOKS), "round {round}");
            for at in looks.active.clone() {
                looks.found(at, Err(OpenError::NotFound), true);
            }
            assert_eq!(all(&mut looks).len(), WAITERS);
        }
    }
}
