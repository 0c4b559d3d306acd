//! Which transfers hold which boot files open. The world has [`limits::FILES`] places, each with a descriptor. A client that asks for a
//! file holds one for as long as its transfer lives, whether it answers or not.
//!
//! | files held by nobody but | take at most |
//! |---|---|
//! | strangers | a quarter of the places |
//! | strangers, and machines without a number | three quarters |
//!
//! So a node always finds a place, whoever else asks for what. Beyond a share the file whose holders have been silent for longest goes.

use crate::base::chain::Chains;
use crate::base::limits::FILES;
use crate::base::machine::FileId;
use crate::base::slab::Key;

use crate::base::time::Instant;
use crate::engine::Ctx;

use super::transfer::{Requester, Transfer};
use super::{Counter, Tftp};

/// Transfers that may be ended while one file is opened: each is two outputs.
const EVICTIONS: usize = 4;

/// Whose file it is, by the best of those who hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Stranger,
    Guest,
    Node,
}

impl Rank {
    const ALL: [Rank; 3] = [Rank::Stranger, Rank::Guest, Rank::Node];

    /// Places of files that nobody better than these holds.
    const fn share(self) -> usize {
        match self {
            Rank::Stranger => FILES / 4,
            Rank::Guest => FILES / 4 * 3,
            Rank::Node => FILES,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct FileHolders {
    file: Option<FileId>,
    holders: [u32; Rank::ALL.len()],
}

impl FileHolders {
    fn rank(&self) -> Option<Rank> {
        Rank::ALL.into_iter().rev().find(|&rank| self.holders[rank as usize] > 0)
    }
}

/// A transfer's hold on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    place: usize,
    rank: Rank,
}

pub(super) struct HeldFiles {
    places: Box<[FileHolders]>,
    /// The holders of each, in the order in which they were heard.
    holders: Chains<FILES>,
    /// Files by rank.
    files: [usize; Rank::ALL.len()],
}

impl HeldFiles {
    pub fn new(transfers: usize) -> HeldFiles {
        HeldFiles { places: vec![FileHolders::default(); FILES].into(), holders: Chains::new(transfers), files: [0; Rank::ALL.len()] }
    }

    fn is_full(&self) -> bool {
        self.files.iter().sum::<usize>() >= FILES
    }

    /// Changes how many of a rank hold a file.
    fn count(&mut self, hold: Hold, change: impl Fn(u32) -> u32) {
        let place = &mut self.places[hold.place];
        if let Some(rank) = place.rank() {
            self.files[rank as usize] -= 1;
        }
        let holders = &mut place.holders[hold.rank as usize];
        *holders = change(*holders);
        match place.rank() {
            Some(rank) => self.files[rank as usize] += 1,
            None => place.file = None,
        }
    }

    /// A transfer begins to hold a file. None: the world has more open than it may.
    fn hold(&mut self, slot: usize, file: FileId, rank: Rank) -> Option<Hold> {
        let at = |wanted| self.places.iter().position(|place| place.file == wanted);
        let place = at(Some(file)).or_else(|| at(None))?;
        let hold = Hold { place, rank };
        self.places[place].file = Some(file);
        self.count(hold, |holders| holders + 1);
        self.holders.push(place, slot);
        Some(hold)
    }

    pub fn release(&mut self, slot: usize, hold: Hold) {
        self.holders.remove(slot);
        self.count(hold, |holders| holders.saturating_sub(1));
    }

    /// A holder was heard of.
    pub fn heard(&mut self, slot: usize, hold: Hold) {
        self.holders.remove(slot);
        self.holders.push(hold.place, slot);
    }

    /// The rank up to which more files are held than may be.
    fn surplus(&self) -> Option<Rank> {
        let held = |up_to: Rank| Rank::ALL.iter().filter(|&&rank| rank <= up_to).map(|&rank| self.files[rank as usize]).sum::<usize>();
        Rank::ALL.into_iter().find(|&rank| held(rank) > rank.share())
    }

    /// The longest silent holder of the file that was used last longest ago, of those that nobody better than `rank` holds.
    fn victim(&self, rank: Rank, except: Option<Hold>, heard: impl Fn(usize) -> Option<Instant>) -> Option<usize> {
        let may_go = |at: &usize| self.places[*at].rank().is_some_and(|its| its <= rank) && except.is_none_or(|hold| hold.place != *at);
        let used = |at: &usize| self.holders.last(*at).and_then(&heard);
        (0..FILES).filter(may_go).min_by_key(used).and_then(|at| self.holders.first(at))
    }
}

impl Tftp {
    /// Whose transfer this is.
    fn rank(ctx: &Ctx<'_>, transfer: &Transfer) -> Rank {
        let client = transfer.session().client().and_then(|client| ctx.roll.get(client));
        match (transfer.session().origin(), client) {
            (Requester::Stranger, _) => Rank::Stranger,
            (_, Some(client)) if client.number().is_none() => Rank::Guest,
            _ => Rank::Node,
        }
    }

    /// A transfer holds the file that was opened for it. Others make room for it where too many files are held by such as they are.
    /// False: there is none for it.
    pub(super) fn hold(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>, file: FileId) -> bool {
        let Some(transfer) = self.transfers.get_mut(key) else { return false };
        let rank = Tftp::rank(ctx, transfer);
        let hold = self.held.hold(key.slot(), file, rank);
        transfer.held(hold);
        let Some(hold) = hold else { return true };
        for _ in 0..EVICTIONS {
            let Some(surplus) = self.held.surplus() else { return true };
            if !self.drop_file(ctx, surplus, Some(hold)) {
                break;
            }
        }
        self.held.surplus().is_none_or(|surplus| self.held.places[hold.place].rank() > Some(surplus))
    }

    /// The world had no place for a file that this transfer asked for: there may be one when it asks again.
    pub(super) fn found_no_place(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        let rank = self.transfers.get(key).map_or(Rank::Stranger, |transfer| Tftp::rank(ctx, transfer));
        let below = Rank::ALL.into_iter().rev().find(|&below| below < rank);
        if let Some(below) = below.filter(|_| self.held.is_full()) {
            self.drop_file(ctx, below, None);
        }
    }

    /// Ends a transfer that holds a file which nobody better than `rank` holds.
    fn drop_file(&mut self, ctx: &mut Ctx<'_>, rank: Rank, except: Option<Hold>) -> bool {
        let heard = |slot| Some(self.transfers.get(self.transfers.key_at(slot)?)?.look().heard());
        let victim = self.held.victim(rank, except, heard).and_then(|slot| self.transfers.key_at(slot));
        if let Some(victim) = victim {
            ctx.stats.count(Counter::TftpEvicted);
            self.end(ctx, victim);
        }
        victim.is_some()
    }
}
