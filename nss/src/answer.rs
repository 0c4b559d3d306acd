//! Answers, laid out in the caller's buffer as the C structures want it.

use core::ffi::{c_char, c_int};
use core::fmt::{self, Write};
use core::mem::{align_of, size_of};
use core::net::Ipv4Addr;
use core::ptr::null_mut;

use libc::{AF_INET, hostent};

use crate::plan::{Host, NamesFile, NodeNames, This};

/// A host's full name and its end.
const FULL_MAX: usize = NodeNames::NAME_MAX + 1 + NodeNames::DOMAIN_MAX + 1;

/// `struct gaih_addrtuple`
#[repr(C)]
pub struct Tuple {
    next: *mut Tuple,
    name: *mut c_char,
    family: c_int,
    address: [u32; 4],
    scope: u32,
}

pub struct FoundHost(pub hostent);

/// A text with its terminating zero.
pub struct CText {
    bytes: [u8; FULL_MAX],
    len: usize,
}

impl CText {
    /// None when it does not fit, which no name of a sound plan does.
    pub fn of(text: fmt::Arguments<'_>) -> Option<CText> {
        let mut to = CText { bytes: [0; FULL_MAX], len: 0 };
        to.write_fmt(text).ok()?;
        Some(to)
    }

    /// With its zero.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..=self.len).unwrap_or(b"\0")
    }
}

impl Write for CText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The last byte stays zero.
        let room = self.bytes.get_mut(self.len..FULL_MAX - 1).and_then(|room| room.get_mut(..text.len())).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// A host: its canonical name first, as the line of a hosts file has it, and its other names.
pub struct HostAnswer {
    names: [Option<CText>; 3],
    address: Ipv4Addr,
}

impl HostAnswer {
    /// None for who is not known: a head without an address, `self` on a machine that does not know who it is.
    pub fn of(file: &NamesFile, host: Host) -> Option<HostAnswer> {
        let (host, asked_for_self) = match (host, file.this) {
            (Host::This, Some(This::Node(number))) => (Host::Node(number), true),
            (Host::This, Some(This::Head)) => (Host::Head, true),
            (Host::This, None) => return None,
            (host, _) => (host, false),
        };
        let own = if asked_for_self { CText::of(format_args!("self")) } else { None };
        match host {
            Host::Node(number) => {
                let name = file.plan.name(number)?;
                let names = named(file, format_args!("{name}"));
                let [full, short] = names?;
                Some(HostAnswer { names: [full, short, own], address: file.plan.address(number)? })
            }
            _ => {
                let names = named(file, format_args!("head"));
                let [full, short] = names?;
                let other = if asked_for_self { own } else { CText::of(format_args!("master")) };
                Some(HostAnswer { names: [full, short, other], address: file.head? })
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &CText> {
        self.names.iter().flatten()
    }

    /// The canonical name (0), or the short one behind it (1).
    pub fn nth(&self, at: usize) -> Option<&CText> {
        self.names.get(at)?.as_ref()
    }

    /// The canonical name, laid out; None when the area is too small.
    pub fn name(&self, area: &mut Area) -> Option<*mut c_char> {
        area.text(self.all().next()?)
    }

    /// None when the area is too small.
    pub fn hostent(&self, area: &mut Area) -> Option<FoundHost> {
        let address: *mut [u8; 4] = area.put(self.address.octets())?;
        let addresses: *mut [*mut c_char; 2] = area.put([address.cast(), null_mut()])?;
        let aliases: *mut [*mut c_char; 3] = area.put([null_mut(); 3])?;
        let h_name = self.name(area)?;
        for (at, alias) in self.all().skip(1).take(2).enumerate() {
            let text = area.text(alias)?;
            // SAFETY: `put` gave three pointers, the last of which stays null.
            unsafe { aliases.cast::<*mut c_char>().add(at).write(text) };
        }
        Some(FoundHost(hostent { h_name, h_aliases: aliases.cast(), h_addrtype: AF_INET, h_length: 4, h_addr_list: addresses.cast() }))
    }

    pub fn tuple(&self, name: *mut c_char) -> Tuple {
        let address = [u32::from_ne_bytes(self.address.octets()), 0, 0, 0];
        Tuple { next: null_mut(), name, family: AF_INET, address, scope: 0 }
    }
}

/// The full name and the short one; without a domain the short one is all.
fn named(file: &NamesFile, name: fmt::Arguments<'_>) -> Option<[Option<CText>; 2]> {
    let domain = file.plan.names().domain();
    let short = CText::of(name)?;
    Some(match domain {
        "" => [Some(short), None],
        _ => [Some(CText::of(format_args!("{name}.{domain}"))?), Some(short)],
    })
}

/// The caller's buffer, given out from its beginning.
pub struct Area {
    at: *mut u8,
    left: usize,
}

impl Area {
    /// # Safety
    /// `buffer` has `len` bytes that may be written for as long as this lives.
    pub unsafe fn new(buffer: *mut c_char, len: usize) -> Area {
        Area { at: buffer.cast(), left: if buffer.is_null() { 0 } else { len } }
    }

    fn take(&mut self, len: usize, align: usize) -> Option<*mut u8> {
        let skip = self.at.align_offset(align);
        let need = skip.checked_add(len).filter(|need| *need <= self.left)?;
        let place = self.at.wrapping_add(skip);
        self.at = self.at.wrapping_add(need);
        self.left -= need;
        Some(place)
    }

    /// Lays a value down; None when there is no room.
    pub fn put<T>(&mut self, value: T) -> Option<*mut T> {
        let place: *mut T = self.take(size_of::<T>(), align_of::<T>())?.cast();
        // SAFETY: `take` gave as many bytes of the buffer, aligned as T wants it.
        unsafe { place.write(value) };
        Some(place)
    }

    pub fn text(&mut self, text: &CText) -> Option<*mut c_char> {
        let bytes = text.bytes();
        let place = self.take(bytes.len(), 1)?;
        // SAFETY: `take` gave as many bytes of the buffer; nobody else has them.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Some(place.cast())
    }
}
