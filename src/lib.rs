//! muster: a boot server for compute clusters.
//!
//! This page is the map. There are two deterministic machines, which know no socket, file, clock or chance of their own: the
//! [`engine::server::Server`] (what `musterd` runs) and the [`fleet::Fleet`] of client machines (what `muster-storm` runs; a node that has
//! booted is one of [`fleet::passing`], in `muster-in`). Two worlds can drive a machine: the [`shell`] (mio, sockets, files, signals) and
//! the simulator, [`sim`] (virtual time, a modelled network and disk). The contract between a machine and its world is
//! [`base::machine::Machine`]: one input at a time goes in, outputs are left in an [`base::outbox::Outbox`].
//!
//! # The rooms, from the ground up
//! A room imports only from itself and from those before it; `tests/tidy.rs` holds that rule, and the bans that go with it.
//!
//! | room | what it is |
//! |---|---|
//! | [`base`] | time, chance, fixed tables, timers, counters, the contract of a machine and its endpoints; knows no protocol |
//! | [`wire`] | bytes <-> meaning: frames (by `etherparse`), DHCP, TFTP, DNS (by `domain`), the report of a node, the operator's JSON lines; no state |
//! | [`roll`] | who is who: the plan of numbers and addresses, the lot table and its journal, client records, the guest pools |
//! | [`config`] | text, flags and facts -> one checked `Config` |
//! | [`engine`] | the Server: DHCP, TFTP, DNS, pacing, what a machine is given to boot, who gets which number, the operator's requests |
//! | [`fleet`] | thousands of client machines with the habits of real firmware; the client of a node that has booted |
//! | [`sim`] | the virtual world, and the checkers that watch what happens in it |
//! | [`shell`] | the only room that meets the kernel; what may wait for a file is done by processes of its own ([`shell::work`]) |
//! | `bin` | flags, composition, exit codes |
//!
//! Beside them stands `nss/`, a crate of its own: the name-service module, which every process of a machine loads. It is built from the source of
//! [`roll::plan`] and reads the file that [`roll::plan::NamesFile`] writes.
//!
//! # One packet, followed
//! A DISCOVER passes the filter of `shell::packet` into a ring that kernel and daemon share, becomes an `Input::Datagram` of one of the
//! Server's [`engine::endpoints`], is parsed by `wire::dhcp`, finds or makes its record in `roll::registry`, gets an address
//! (`engine::dhcp`), and leaves as an `Output::Datagram` that the shell wraps into a frame. A REQUEST whose answer has to be on disk first waits
//! in [`engine::commit`] for its journal record. An ACK of TFTP finds its transfer by (client address, client port, server port), which takes a
//! place in its link's lane (`engine::pace`); when its turn comes it puts out an `Output::SendFile`, and the shell reads the file into the very
//! buffer that it sends from: one block as a frame of its own making, a window as one message that the kernel cuts up.
//!
//! # One request, followed
//! A line of `muster node list @stuck` comes in at the operators' socket, whose guard (`shell::control`) knows who wrote it. It waits in
//! `shell::conns`, where all connections live, and becomes an `Input::Stream` when the answer before was taken: one a turn, so that machines
//! that boot never wait for people. `wire::control` makes a request of it, [`engine::view`] a page of rows, which leaves as an `Output::Write`
//! (`state.json` and the log get their rows from there too). What machines do meanwhile is pushed to those who watch from a ring in the roll
//! (`roll::recent`), which the transition function fills.
//!
//! # One command, followed
//! A line of `muster reload` and SIGHUP (`Input::Command`) come to the same: `engine::command` takes them one after the other. What a reload may
//! do, and in which order, is `engine::reload`'s; what a checkpoint is, `engine::checkpoint`'s. Only work on files goes to the world, as an
//! `Output::Task`: the shell's clerk does it beside the loop (the simulator's in memory), and an `Input::Done` says what came of it. Who asked on
//! a connection is answered by an `Output::Write`.
//!
//! # One name, followed
//! A question for `n23.cluster` waits in a socket of the table until those who boot were served, becomes an `Input::Datagram` (or a
//! `Stream`, by TCP), is read by `wire::dns`, located in a zone (`engine::dns`, module `zone`) and answered by arithmetic (`find`). A name
//! that is not ours goes on to an upstream under an id of ours (`forward`), a whole zone to a secondary in pieces, each when the one before
//! was taken (`transfer`).
//!
//! # Laws that shape the code
//! Everything is allocated and opened at start, from `base::limits`, those of each protocol, and the table of endpoints; the work for a packet
//! is O(1). Every drop is counted by its reason. One transition function writes a client's stage, by a table (`roll::stage`). Every transfer is
//! looked at every half second, and nothing ever backs off exponentially (`engine::tftp`). What leaves is paced to the measured rate of the
//! way; who is silent, or unknown, has a share of its own and is no evidence (`engine::pace`, modules `quiet` and `crowd`). Decisions of a protocol
//! are pure functions that look like its specification's table (`engine::dhcp`, modules `decide` and `rights`). All ten laws, numbered as the code
//! cites them, are in `doc/architecture.md`. `CONTRIBUTING.md` lists where to make the changes that are made most.

pub mod base;
pub mod config;
pub mod engine;
pub mod fleet;
pub mod roll;
pub mod shell;
pub mod sim;
pub mod wire;
