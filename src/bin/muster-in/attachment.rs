//! Which interface is configured: the one that is named, the one that was booted from, or the only one with a cable.

use std::time::{Duration, Instant};

use muster::base::addr::Mac;
use muster::shell::ShellError;
use muster::shell::interface::{Interface, Interfaces};

use crate::machine::Sysfs;

/// A driver may still be on its way when an initramfs calls us.
const APPEARS: Duration = Duration::from_secs(5);
/// What a card needs to find out whether a cable is there, from the moment that it is up; and how long at most is waited for one.
const NEGOTIATES: Duration = Duration::from_secs(3);
const CABLE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// What the choice is made by.
pub struct InterfaceHints<'a> {
    /// `-i`.
    pub interface: Option<&'a str>,
    /// `BOOTIF`.
    pub boot: Option<Mac>,
    /// `--nic`.
    pub cards: &'a [String],
}

/// The interface, or those of which one is to be chosen by its cable.
pub enum Attachment {
    Here(Interface),
    Somewhere(Cables),
}

/// Cards that were set up so that their cables can be seen.
pub struct Cables {
    cards: Vec<Interface>,
    /// Those of them that were down before.
    woken: Vec<Interface>,
    since: Instant,
}

/// Finds the interface, and sets it up. Done before the tests, so that the link negotiates while they run.
pub fn find(links: &mut Interfaces, sysfs: &Sysfs, wish: &InterfaceHints<'_>) -> Result<Attachment, ShellError> {
    let begin = Instant::now();
    loop {
        let all = links.list()?;
        let cards = sysfs.cards(&all, wish.cards);
        let found = match (wish, &cards) {
            (InterfaceHints { interface: Some(name), .. }, _) => named(&all, name),
            (InterfaceHints { boot: Some(mac), .. }, Ok(cards)) => booted(&all, cards, sysfs, *mac),
            (_, Ok(cards)) => match cards.as_slice() {
                [] => Err("the kernel knows no Ethernet card: load a driver, or name an interface with -i".into()),
                [one] => Ok(one.clone()),
                _ => return Cables::new(links, cards).map(Attachment::Somewhere),
            },
            (_, Err(why)) => Err(why.clone()),
        };
        match found {
            Ok(interface) => {
                wake(links, &interface)?;
                return Ok(Attachment::Here(interface));
            }
            Err(why) if begin.elapsed() > APPEARS => return Err(ShellError::new(why)),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn named(all: &[Interface], name: &str) -> Result<Interface, String> {
    let found = all.iter().find(|interface| interface.name == name).cloned();
    found.ok_or_else(|| format!("there is no Ethernet interface {name}: there are {}", names(all)))
}

/// By the address that it was made with or that it uses, a card before what is built upon it.
fn booted(all: &[Interface], cards: &[Interface], sysfs: &Sysfs, mac: Mac) -> Result<Interface, String> {
    let permanent = cards.iter().find(|card| sysfs.permanent(card) == mac);
    let found = permanent.or_else(|| cards.iter().chain(all).find(|interface| interface.mac == mac)).cloned();
    found.ok_or_else(|| format!("no interface has {mac}, which is BOOTIF on the kernel's command line: name one with -i ({})", names(all)))
}

fn names(all: &[Interface]) -> String {
    match all {
        [] => "none".into(),
        all => all.iter().map(|interface| interface.name.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// Sets an interface up. True when it was down.
fn wake(links: &mut Interfaces, interface: &Interface) -> Result<bool, ShellError> {
    if !interface.up {
        links.set_up(interface, true)?;
        log::debug!("{}: brought up", interface.name);
    }
    Ok(!interface.up)
}

impl Cables {
    fn new(links: &mut Interfaces, cards: &[Interface]) -> Result<Cables, ShellError> {
        let mut woken = Vec::new();
        for card in cards {
            if wake(links, card)? {
                woken.push(card.clone());
            }
        }
        Ok(Cables { cards: cards.to_vec(), woken, since: Instant::now() })
    }

    /// The only card with a cable. Those that were set up in vain are set down again.
    pub fn choose(self, links: &mut Interfaces) -> Result<Interface, ShellError> {
        if !self.woken.is_empty() {
            std::thread::sleep(NEGOTIATES.saturating_sub(self.since.elapsed()));
        }
        let chosen = loop {
            let all = links.list()?;
            let ours = |interface: &Interface| self.cards.iter().any(|card| card.index == interface.index);
            let wired: Vec<Interface> = all.into_iter().filter(|interface| interface.carrier && ours(interface)).collect();
            match wired.as_slice() {
                [one] => break Ok(one.clone()),
                [] if self.since.elapsed() < CABLE => std::thread::sleep(LOOK),
                [] => break Err(format!("no card has a cable: plug one in, or name an interface with -i ({})", names(&self.cards))),
                several => break Err(format!("several cards have a cable: name one of {} with -i", names(several))),
            }
        };
        let index = chosen.as_ref().map_or(0, |interface| interface.index);
        for card in self.woken.iter().filter(|card| card.index != index) {
            links.set_up(card, false)?;
        }
        chosen.map_err(ShellError::new)
    }
}
