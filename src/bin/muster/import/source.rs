//! Files and folders become texts: of any size up to a limit, with Unix, DOS or old Mac line ends, with a byte order mark or without.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::super::Failure;

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// A file that was asked for.
#[derive(Debug)]
pub struct Source {
    pub name: String,
    pub path: Option<PathBuf>,
    /// Or why it is none that can be read.
    pub text: Result<String, String>,
}

/// All that is to be read, and what is passed over in folders, a sentence each.
pub fn load(paths: &[PathBuf]) -> Result<(Vec<Source>, Vec<String>), Failure> {
    let (mut sources, mut passed_over) = (Vec::new(), Vec::new());
    for path in paths {
        if path.is_dir() {
            folder(path, &mut sources, &mut passed_over)?;
        } else {
            sources.push(one(path)?);
        }
    }
    Ok((sources, passed_over))
}

/// The files of a folder in order of their names, but for what editors and package managers leave behind.
fn folder(path: &Path, sources: &mut Vec<Source>, passed_over: &mut Vec<String>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("cannot read the folder {}: {error}", path.display()));
    let entries: Vec<fs::DirEntry> = fs::read_dir(path).and_then(Iterator::collect).map_err(failed)?;
    let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let left_behind = [".bak", ".orig", ".rpmsave", ".rpmnew", ".swp", "~"].iter().any(|end| name.ends_with(end));
        if path.is_dir() {
            passed_over.push(format!("{} is a folder in a folder, and is not read", path.display()));
        } else if left_behind || name.starts_with(['.', '#']) || name.contains(".dpkg-") {
            passed_over.push(format!("{} is hidden or a backup, and is not read", path.display()));
        } else {
            sources.push(one(&path)?);
        }
    }
    Ok(())
}

fn one(path: &Path) -> Result<Source, Failure> {
    let stdin = path == Path::new("-");
    let name = if stdin { "standard input".to_string() } else { path.display().to_string() };
    let failed = |error: io::Error| Failure::Failed(format!("cannot read {name}: {error}"));
    let mut bytes = Vec::new();
    match stdin {
        true => io::stdin().lock().take(FILE_MAX).read_to_end(&mut bytes),
        false => fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes)),
    }
    .map_err(failed)?;
    if bytes.len() as u64 == FILE_MAX {
        return Err(Failure::Failed(format!("{name} is larger than {} MiB: check that it is the right file", FILE_MAX >> 20)));
    }
    Ok(Source { name, path: (!stdin).then(|| path.to_path_buf()), text: decode(&bytes) })
}

/// Text with lines that end as Unix's do; or what keeps the bytes from being one.
fn decode(bytes: &[u8]) -> Result<String, String> {
    let zeros = bytes.iter().take(4096).filter(|byte| **byte == 0).count();
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || zeros * 3 > bytes.len().min(4096) {
        return Err("this is UTF-16: save it as UTF-8, or convert it with iconv -f UTF-16 -t UTF-8".into());
    }
    if zeros > 0 {
        return Err("this is not a text file".into());
    }
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    match text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().as_slice() {
        [] => Err("the file is empty".into()),
        // A line of comment may name the columns of a table.
        lines if lines.len() == 1 && lines.iter().all(|line| line.starts_with('#')) => Err("the file has only a comment".into()),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_lines() {
        assert_eq!(decode(b"\xef\xbb\xbfa\r\nb\rc\n").unwrap(), "a\nb\nc\n");
        for (bytes, why) in [
            (&b"\xff\xfe5\x002\x00"[..], "UTF-16"),
            (b"5\x002\x00:\x00", "UTF-16"),
            (b"", "empty"),
            (b" \n\n", "empty"),
            (b"\x7fELF\x02\x01\x00 and more text", "not a text"),
            (b"# nothing\n", "comment"),
        ] {
            assert!(decode(bytes).unwrap_err().contains(why), "{why}");
        }
        assert_eq!(decode(b"\xe4 n1\n").unwrap(), "\u{fffd} n1\n");
    }
}
