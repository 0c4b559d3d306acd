//! What a file process does: one request after the other, each answered when it is done, until the loop's end of the socket is closed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};

use super::super::ShellError;
use super::super::confine::{Order, account};
use super::beneath::{self, FileVersion, Ground, How, Looked, Root};
use super::clerk;
use super::message::{self, BODY_MAX, Op, WorkFiles, WorkOutcome, WorkRequest, WorkWords};
use super::pen::Pen;
use super::survey;
use super::walk::Allowed;

/// Serves until the other end is gone.
pub fn serve(socket: &OwnedFd) {
    let (mut input, mut output) = (vec![0; BODY_MAX], vec![0; BODY_MAX]);
    let mut hands = Hands::default();
    while let Ok(mut request) = message::request(socket.as_fd(), &mut input) {
        let body = input.get(..request.len).unwrap_or_default();
        let Some(done) = hands.act(&mut request, body, &mut output) else { continue };
        let files: Vec<BorrowedFd<'_>> = done.files.iter().flatten().map(AsFd::as_fd).collect();
        let told = output.get(..done.len).unwrap_or_default();
        if message::answer(socket.as_fd(), &done.outcome, done.words, told, &files).is_err() {
            return;
        }
    }
}

/// How a request ended. Its bytes are in the output.
struct Done {
    outcome: WorkOutcome,
    words: WorkWords,
    len: usize,
    files: WorkFiles,
}

impl Done {
    fn with(words: &[u64]) -> Done {
        let mut all = WorkWords::default();
        all.iter_mut().zip(words).for_each(|(to, word)| *to = *word);
        Done { outcome: WorkOutcome::Done, words: all, len: 0, files: [None, None] }
    }

    fn file(self, file: impl Into<OwnedFd>) -> Done {
        Done { files: [Some(file.into()), None], ..self }
    }

    fn refused(error: &ShellError, output: &mut [u8]) -> Done {
        let sentence = error.to_string();
        let len = sentence.len().min(output.len());
        output.iter_mut().zip(sentence.bytes()).for_each(|(to, byte)| *to = byte);
        Done { outcome: WorkOutcome::Refused, len, ..Done::with(&[]) }
    }
}

impl From<io::Error> for Done {
    fn from(error: io::Error) -> Done {
        Done { outcome: WorkOutcome::Failed(error), ..Done::with(&[]) }
    }
}

/// What a process keeps between two requests.
#[derive(Default)]
struct Hands {
    pen: Option<Pen>,
    /// The far file that was read from last, by its number: the next piece is mostly of it as well.
    last: Option<(u64, File)>,
    /// To be closed when the loop has closed its own.
    grave: Option<OwnedFd>,
    /// What it was told to do with itself, if landlock holds it to that.
    held: Option<Order>,
    /// Whom it runs as.
    user: String,
    /// Folders into which links may lead.
    allowed: Vec<Allowed>,
}

impl Hands {
    /// None: it is not answered.
    fn act(&mut self, request: &mut WorkRequest, body: &[u8], output: &mut [u8]) -> Option<Done> {
        let done = match request.op {
            Op::Close => {
                self.grave = request.files[0].take();
                return None;
            }
            Op::Bury => {
                // Were this one's the last copy but one, the loop would do what ends a file; so it closes first.
                self.grave = None;
                Ok(Done::with(&[]))
            }
            Op::Confine => self.confine(Order::parse(&request.words, body)),
            Op::Adopt | Op::Append | Op::Place | Op::Settle | Op::Watch | Op::Names => self.write(request, body),
            Op::Look | Op::Warm | Op::Fetch | Op::State => self.read(request, body, output),
            Op::Root => Ok(self.open_root(&path(body), output)),
            Op::Survey => self.survey(request, body, output),
            Op::Exists => Ok(self.exists(body, output)),
            Op::Config | Op::Bind | Op::Write | Op::Try => assist(request, body, output),
        };
        Some(done.unwrap_or_else(Done::from))
    }

    fn confine(&mut self, order: Order) -> io::Result<Done> {
        self.user = account::name_of(order.uid());
        self.allowed = beneath::allow(order.links());
        let held = order.obey(parent_id())?;
        self.held = Some(order).filter(|_| held.landlock > 0);
        Ok(Done::with(&[held.landlock.into(), held.seccomp.into()]))
    }

    fn open_root(&self, path: &Path, output: &mut [u8]) -> Done {
        match beneath::root(path) {
            Err(_) if self.held.as_ref().is_some_and(|order| !order.covers(path)) => {
                let why = "it is in no folder that was allowed at start: restart musterd, or name one that it is in with `allow` in [boot]";
                Done::refused(&ShellError::system(format_args!("cannot serve files from {}", path.display()), why, ""), output)
            }
            Err(why) => Done::refused(&why, output),
            Ok(Root { fd, how, near }) => {
                let walks = if let How::Walk(errno) = how { errno as u64 } else { 0 };
                Done::with(&[walks, near.into()]).file(fd)
            }
        }
    }

    /// Tells which names are files beneath a root. Before this process was told where links may lead it is told with the root, a line each.
    fn exists(&self, body: &[u8], output: &mut [u8]) -> Done {
        let mut parts = body.split(|&byte| byte == 0);
        let mut folders = parts.next().unwrap_or_default().split(|&byte| byte == b'\n').map(path);
        let root = beneath::root(&folders.next().unwrap_or_default());
        let told = beneath::allow(&folders.collect::<Vec<_>>());
        let allowed = if told.is_empty() { &self.allowed } else { &told };
        // A root that is not there is told of when it is to be served.
        let is_file = |name| root.as_ref().is_ok_and(|root| beneath::is_file(root.ground(allowed), name));
        let len = parts.zip(output.iter_mut()).map(|(name, to)| *to = u8::from(is_file(name))).count();
        Done { len, ..Done::with(&[]) }
    }

    /// Tells whom it runs as, and which files that user may not read.
    fn survey(&self, request: &WorkRequest, body: &[u8], output: &mut [u8]) -> io::Result<Done> {
        let how = if request.words[0] == 0 { How::Openat2 } else { How::Walk(0) };
        let root = Root { fd: request.file()?.try_clone()?, how, near: request.words[1] != 0 };
        let found = survey::survey(&root, &self.allowed, body.split(|&byte| byte == 0));
        let said = [[self.user.clone()].as_slice(), found.denied.as_slice(), found.outside.as_slice()].concat().join("\0");
        let len = said.len().min(output.len());
        output.iter_mut().zip(said.bytes()).for_each(|(to, byte)| *to = byte);
        Ok(Done { len, ..Done::with(&[found.count, found.denied.len() as u64]) })
    }

    fn write(&mut self, request: &mut WorkRequest, body: &[u8]) -> io::Result<Done> {
        if request.op == Op::Adopt {
            let [Some(folder), Some(file)] = std::mem::take(&mut request.files) else { return Err(io::ErrorKind::InvalidInput.into()) };
            let [path, run] = two(body)?;
            self.pen = Some(Pen::adopt(path, &run, (folder.into(), file.into()), request.words[0], request.words[1] != 0));
            return Ok(Done::with(&[]));
        }
        let pen = self.pen.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let end = match request.op {
            Op::Append => pen.append(body, request.words[0] != 0),
            Op::Place => pen.place(&File::from(request.file()?.try_clone()?)).map(|()| None),
            Op::Settle => pen.settle().map(|()| None),
            Op::Watch => Ok(pen.loss()),
            _ => {
                let text = File::from(request.file()?.try_clone()?);
                return pen.publish(&path(body), text).map(|()| Done::with(&[]));
            }
        };
        Ok(match end {
            Ok(loss) => Done::with(&[loss.map_or(0, |loss| loss as u64)]),
            Err((step, error)) => Done { words: Done::with(&[step as u64]).words, ..Done::from(error) },
        })
    }

    fn read(&mut self, request: &mut WorkRequest, body: &[u8], output: &mut [u8]) -> io::Result<Done> {
        let words = request.words;
        let file = request.file()?;
        match request.op {
            Op::Look => {
                let known = FileVersion::of(&words);
                let how = if words[5] == 0 { How::Openat2 } else { How::Walk(0) };
                let ground = Ground { root: file.as_fd(), how, allowed: &self.allowed };
                let looked = beneath::look(ground, body, (known != FileVersion::default()).then_some(known))?;
                Ok(match looked {
                    Looked::Same => Done::with(&known.words()),
                    Looked::File { fd, stamp, reach } => {
                        let [dev, ino, size, seconds, nanos] = stamp.words();
                        Done::with(&[dev, ino, size, seconds, nanos, reach.word()]).file(fd)
                    }
                })
            }
            Op::Warm => beneath::warm(file, words[0], words[1], words[2], output).map(|()| Done::with(&[])),
            Op::Fetch => {
                if self.last.as_ref().is_none_or(|(number, _)| *number != words[0]) {
                    self.last = None;
                    self.last = Some((words[0], beneath::reopen(file.as_fd())?.into()));
                }
                let Some((_, file)) = self.last.as_ref() else { return Err(io::ErrorKind::NotFound.into()) };
                let len = output.len().min(words[2] as usize);
                let len = beneath::fetch(file, words[1], output.get_mut(..len).unwrap_or_default())?;
                // Asked behind the read: what was read is of this content.
                let (stamp, _) = beneath::state(file.as_fd())?;
                Ok(Done { len, ..Done::with(&stamp.words()) })
            }
            _ => beneath::state(file.as_fd()).map(|(stamp, _)| Done::with(&stamp.words())),
        }
    }
}

/// What needs no memory of earlier requests.
fn assist(request: &mut WorkRequest, body: &[u8], output: &mut [u8]) -> io::Result<Done> {
    let words = request.words;
    Ok(match request.op {
        Op::Config => match clerk::read_config(&path(body)) {
            Err(why) => Done::refused(&why, output),
            Ok(None) => Done::with(&[0]),
            Ok(Some(text)) => Done::with(&[1]).file(in_memory(text.as_bytes())?),
        },
        Op::Bind => match clerk::open_door(&path(body), (words[0] != 0).then_some((words[1], words[2]))) {
            Err(why) => Done::refused(&why, output),
            Ok(door) => {
                let (dev, ino) = door.identity.unwrap_or_default();
                let ungiven = door.ungiven.map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO) as u64);
                let group = door.group.map_or(0, |group| u64::from(group) + 1);
                Done::with(&[dev, ino, group, ungiven]).file(door.listener)
            }
        },
        Op::Try => {
            clerk::try_folder(&path(body));
            Done::with(&[])
        }
        _ => {
            clerk::write_atomically(&path(body), &File::from(request.file()?.try_clone()?))?;
            Done::with(&[])
        }
    })
}

/// Text as a file in memory.
pub fn in_memory(text: &[u8]) -> io::Result<OwnedFd> {
    use std::io::Write;
    let mut file = File::from(super::super::sys::file::in_memory(c"muster")?);
    file.write_all(text)?;
    Ok(file.into())
}

fn path(body: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(body)).to_path_buf()
}

fn two(body: &[u8]) -> io::Result<[PathBuf; 2]> {
    let mut parts = body.split(|&byte| byte == 0);
    let (Some(first), Some(second)) = (parts.next(), parts.next()) else { return Err(io::ErrorKind::InvalidInput.into()) };
    Ok([path(first), path(second)])
}
