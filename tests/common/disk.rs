//! Disks for a test to fill, to break and to slow down: a real file system (ext4) on a loop device over a file, which may live behind a
//! FUSE server of the test's own, whose syncs take as long as the test wants; and folders behind a FUSE server that can be stopped.
//!
//! They are mounted in a mount namespace of the test's own thread, which the daemons that it starts live in too: nobody else sees them, and
//! nothing is left when the test ends, however it ends. The lab must be there before its disks.
#![allow(dead_code)] // each test crate uses its own part of it

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{self, Lab};

/// An ext4 file system. Unmounted when this is dropped.
pub struct Disk {
    path: PathBuf,
    image: PathBuf,
    slow: Option<Slow>,
}

impl Disk {
    /// Of so many KiB.
    pub fn new(lab: &Lab, kib: u64) -> Disk {
        own_mounts();
        let image = lab.dir().join("disk.img");
        File::create(&image).and_then(|file| file.set_len(kib << 10)).expect("an image");
        Disk::on(lab, image, None)
    }

    /// Of so many KiB, with syncs that take as long as [`Disk::sync_takes`] says.
    pub fn slow(lab: &Lab, kib: u64) -> Disk {
        own_mounts();
        let slow = Slow::mount(lab.dir().join("slow"), (kib << 10) as usize);
        let image = slow.path.join("disk");
        Disk::on(lab, image, Some(slow))
    }

    fn on(lab: &Lab, image: PathBuf, slow: Option<Slow>) -> Disk {
        let path = lab.dir().join("disk");
        fs::create_dir(&path).expect("a folder");
        // No lazy work later, no blocks kept for root, a small journal of its own.
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-J", "size=1", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", text(&image)]);
        let disk = Disk { path, image, slow };
        disk.mount();
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts it, after [`Disk::unmount`]. An error of the disk makes it read-only.
    pub fn mount(&self) {
        run("mount", &["-t", "ext4", "-o", "loop,errors=remount-ro", text(&self.image), text(&self.path)]);
    }

    /// Mounts it read-only; [`Disk::remount`] makes it writable.
    pub fn mount_read_only(&self) {
        self.mount();
        run("mount", &["-o", "remount,ro", text(&self.path)]);
    }

    /// Makes it writable as an operator would, for a process that may run in a mount namespace of its own.
    pub fn remount(&self, pid: u32) {
        run("nsenter", &["-t", &pid.to_string(), "-m", "mount", "-o", "remount,rw", text(&self.path)]);
    }

    pub fn unmount(&self) {
        run("umount", &[text(&self.path)]);
    }

    /// Checks and mends it while it is not mounted, as at a boot.
    pub fn check(&self) {
        let status = Command::new("e2fsck").args(["-p", text(&self.image)]).status().expect("e2fsck, which every Debian has");
        // 1: errors were corrected.
        assert!(matches!(status.code(), Some(0 | 1)), "e2fsck: {status}");
    }

    /// Breaks it: the kernel finds an error, and writes nothing from then on.
    pub fn break_down(&self) {
        let device = run("findmnt", &["-n", "-o", "SOURCE", text(&self.path)]);
        let name = device.trim().trim_start_matches("/dev/").to_string();
        assert!(name.starts_with("loop"), "{name} is no disk of this test");
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "muster's test").expect("a kernel that can be told of an error");
    }

    /// Freezes it, as a snapshot or a backup does: who writes to it waits. It thaws when the guard is dropped.
    pub fn freeze(&self) -> Frozen<'_> {
        run("fsfreeze", &["-f", text(&self.path)]);
        Frozen(self)
    }

    /// Writes a file until nothing more fits; it can be removed again.
    pub fn fill(&self) -> PathBuf {
        let path = self.path.join("filler");
        let mut file = File::create(&path).expect("a file to fill the disk with");
        for size in [1 << 16, 1 << 10] {
            while file.write_all(&vec![7; size]).and_then(|()| file.sync_data()).is_ok() {}
        }
        path
    }

    /// How long each sync takes from now on, in milliseconds.
    pub fn sync_takes(&self, millis: u64) {
        self.slow.as_ref().expect("a slow disk").delay.store(millis, Ordering::Relaxed);
    }

    /// How many syncs the slow disk has done.
    pub fn syncs(&self) -> u64 {
        self.slow.as_ref().expect("a slow disk").syncs.load(Ordering::Relaxed)
    }
}

/// A disk that is frozen for as long as this lives.
pub struct Frozen<'a>(&'a Disk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let thawed = Command::new("fsfreeze").args(["-u", text(&self.0.path)]).status();
        assert!(thawed.is_ok_and(|status| status.success()) || std::thread::panicking(), "{} stays frozen", self.0.path.display());
    }
}

/// A folder of the lab as a FUSE file system shows it (bindfs), whose server can be stopped. Unmounted when this is dropped.
pub struct Bound {
    path: PathBuf,
    server: Child,
}

impl Bound {
    /// Shows `folder`.
    pub fn new(lab: &Lab, folder: &Path) -> Bound {
        own_mounts();
        let path = lab.dir().join("bound");
        fs::create_dir(&path).expect("a folder");
        let server = Command::new("bindfs").arg("-f").arg(folder).arg(&path).stdin(Stdio::null()).spawn();
        let bound = Bound { server: server.expect("bindfs, which scripts/setup installs"), path };
        let mounted =
            common::wait(20, || nix::sys::statfs::statfs(&bound.path).is_ok_and(|fs| fs.filesystem_type().0 == 0x6573_5546).then_some(()));
        assert!(mounted.is_some(), "bindfs shows its folder");
        bound
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stops its server: who asks it for anything waits. It goes on when the guard is dropped.
    pub fn stop(&self) -> Stopped {
        let pid = common::pid(&self.server);
        kill(pid, Signal::SIGSTOP).expect("it runs");
        Stopped(pid)
    }
}

/// A file system that does not answer for as long as this lives.
pub struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(slow) = &self.slow {
            slow.delay.store(0, Ordering::Relaxed);
        }
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}: run scripts/setup"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// This thread, and what it starts, see their own mounts; those of others still arrive here.
fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("this test mounts disks and needs root: run `make test` as root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>).expect("mounts of its own");
}

/// A FUSE file system with one file, `disk`, that lives in memory. Only its syncs take time.
struct Slow {
    path: PathBuf,
    delay: Arc<AtomicU64>,
    syncs: Arc<AtomicU64>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

/// Of `linux/fuse.h`.
mod fuse {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const INTERRUPT: u32 = 36;
    pub const BATCH_FORGET: u32 = 42;
    /// Bytes before the request's own, and before the answer's.
    pub const IN: usize = 40;
    pub const WRITE_IN: usize = 40;
    pub const WRITE_MAX: u32 = 128 << 10;
}

/// A request: its number, and its fields after the header.
struct Request<'a> {
    unique: u64,
    node: u64,
    body: &'a [u8],
}

impl Request<'_> {
    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.body[at..at + 8].try_into().expect("8 bytes"))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.body[at..at + 4].try_into().expect("4 bytes"))
    }
}

/// Fields in the kernel's own byte order.
fn fields(longs: &[u64], words: &[u32]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).chain(words.iter().flat_map(|word| word.to_ne_bytes())).collect()
}

fn reply(device: &File, unique: u64, answer: Result<&[u8], i32>) {
    let (error, body) = match answer {
        Ok(body) => (0, body),
        Err(errno) => (-errno, &[][..]),
    };
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend(((16 + body.len()) as u32).to_ne_bytes());
    message.extend(i32::to_ne_bytes(error));
    message.extend(unique.to_ne_bytes());
    message.extend(body);
    // It fails when the kernel has given the request up.
    let _ = (&mut &*device).write(&message);
}

impl Slow {
    fn mount(path: PathBuf, size: usize) -> Slow {
        fs::create_dir(&path).expect("a folder");
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.unwrap_or_else(|error| panic!("/dev/fuse: {error}: this test needs a kernel with FUSE (modprobe fuse)"));
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        mount(Some("muster-slow"), &path, Some("fuse"), MsFlags::empty(), Some(options.as_str())).expect("mount a FUSE file system");
        let (delay, syncs) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut server = Server { device: Arc::new(device), disk: vec![0; size], delay: Arc::clone(&delay), syncs: Arc::clone(&syncs) };
        std::thread::spawn(move || server.run());
        Slow { path, delay, syncs }
    }
}

struct Server {
    device: Arc<File>,
    disk: Vec<u8>,
    delay: Arc<AtomicU64>,
    syncs: Arc<AtomicU64>,
}

impl Server {
    /// Until it is unmounted.
    fn run(&mut self) {
        let device = Arc::clone(&self.device);
        let mut buf = vec![0; fuse::WRITE_MAX as usize + (64 << 10)];
        while let Ok(len) = (&*device).read(&mut buf) {
            let word = |at: usize| u32::from_ne_bytes(buf[at..at + 4].try_into().expect("4 bytes"));
            let long = |at: usize| u64::from_ne_bytes(buf[at..at + 8].try_into().expect("8 bytes"));
            let request = Request { unique: long(8), node: long(16), body: &buf[fuse::IN..len] };
            match word(4) {
                fuse::FORGET | fuse::BATCH_FORGET | fuse::INTERRUPT => {}
                fuse::FSYNC => self.sync(request.unique),
                operation => {
                    let answer = self.answer(operation, &request);
                    reply(&device, request.unique, answer.as_deref().map_err(|errno| *errno));
                }
            }
        }
    }

    /// Answers when it is time, and goes on meanwhile.
    fn sync(&self, unique: u64) {
        let (device, delay, syncs) = (Arc::clone(&self.device), self.delay.load(Ordering::Relaxed), Arc::clone(&self.syncs));
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(delay));
            syncs.fetch_add(1, Ordering::Relaxed);
            reply(&device, unique, Ok(&[]));
        });
    }

    fn answer(&mut self, operation: u32, request: &Request<'_>) -> Result<Vec<u8>, i32> {
        match operation {
            // Version 7.31; no flags; no limits beside the size of a write.
            fuse::INIT => Ok(fields(&[], &[7, 31, 0, 0, 0x000c_0010, fuse::WRITE_MAX, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            fuse::LOOKUP if request.body.starts_with(b"disk\0") => Ok([fields(&[2, 0, 3600, 3600], &[0, 0]), self.attributes(2)].concat()),
            fuse::LOOKUP => Err(libc::ENOENT),
            fuse::GETATTR | fuse::SETATTR => Ok([fields(&[3600], &[0, 0]), self.attributes(request.node)].concat()),
            fuse::OPEN => Ok(fields(&[0], &[0, 0])),
            fuse::READ => {
                let from = (request.u64(8) as usize).min(self.disk.len());
                let to = (from + request.u32(16) as usize).min(self.disk.len());
                Ok(self.disk[from..to].to_vec())
            }
            fuse::WRITE => {
                let data = &request.body[fuse::WRITE_IN..];
                let from = request.u64(8) as usize;
                let place = self.disk.get_mut(from..from + data.len()).ok_or(libc::ENOSPC)?;
                place.copy_from_slice(data);
                Ok(fields(&[], &[data.len() as u32, 0]))
            }
            fuse::FLUSH | fuse::RELEASE => Ok(Vec::new()),
            _ => Err(libc::ENOSYS),
        }
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let (size, mode) = if node == 1 { (0, 0o040_755) } else { (self.disk.len() as u64, 0o100_644) };
        fields(&[node, size, size.div_ceil(512), 0, 0, 0], &[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])
    }
}
