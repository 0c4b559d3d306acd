//! Compares what was loaded with the files of a folder.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use muster::fleet::Hash;
use muster::fleet::summary::LoadedFile;
use muster::shell::ShellError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileCheck {
    Same,
    Differs,
    /// The folder has no such file: a script that the server makes, or the others' names.
    NotThere,
}

impl FileCheck {
    pub const fn name(self) -> &'static str {
        match self {
            FileCheck::Same => "same",
            FileCheck::Differs => "differs",
            FileCheck::NotThere => "not there",
        }
    }
}

/// A verdict on each file. Names come from the network: none leads out of it.
pub fn verify(root: &Path, files: &[LoadedFile]) -> Result<Vec<(String, FileCheck)>, ShellError> {
    let verdict = |content: &LoadedFile| {
        let path = Path::new(content.name.trim_start_matches('/'));
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        let path = root.join(path);
        if !inside || !path.is_file() {
            return Ok((content.name.clone(), FileCheck::NotThere));
        }
        let told = hash_of(&path).map_err(|error| ShellError::system(format!("cannot read {}", path.display()), error, ""))?;
        let same = told == (content.len, content.hash.clone());
        Ok((content.name.clone(), if same { FileCheck::Same } else { FileCheck::Differs }))
    };
    files.iter().map(verdict).collect()
}

/// Bytes of a file and their hash, as the fleet writes it.
fn hash_of(path: &Path) -> std::io::Result<(u64, String)> {
    let (mut file, mut hash, mut buf) = (File::open(path)?, Hash::default(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buf)? {
            0 => return Ok((hash.len(), format!("{:016x}", hash.finish()))),
            len => hash.add(buf.get(..len).unwrap_or(&[])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_is_compared_with_the_folder() {
        let root = std::env::temp_dir().join(format!("muster-verify-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("image"), vec![7; 200_000]).unwrap();
        let (len, hash) = hash_of(&root.join("image")).unwrap();
        let content = |name: &str, hash: &str| LoadedFile { name: name.into(), len, hash: hash.into(), loads: 1, agreed: true };
        let outside = format!("../{}/image", root.file_name().unwrap().to_string_lossy());
        let files = [content("image", &hash), content("/image", "0"), content("boot.ipxe", "0"), content(&outside, &hash)];
        let verdicts: Vec<FileCheck> = verify(&root, &files).unwrap().into_iter().map(|(_, verdict)| verdict).collect();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(verdicts, [FileCheck::Same, FileCheck::Differs, FileCheck::NotThere, FileCheck::NotThere]);
        let mut own = Hash::default();
        own.add(&vec![7; 200_000]);
        assert_eq!((len, hash), (200_000, format!("{:016x}", own.finish())));
    }
}
