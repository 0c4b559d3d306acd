//! Which folders a process may touch, held by the kernel (landlock(7)): whatever else it opens is refused, whoever owns it.
//!
//! As far as the kernel can: each version of landlock holds more. A folder is known by its inode, so that another one that is mounted in its place, or
//! renamed to its name, is another folder; where that is to go on, its parent is in the list.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// The version whose rights are asked for; older kernels hold those that they know.
const RIGHTS: ABI = ABI::V6;

/// Folders (or files) that may be read, and folders that may be written as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderRights {
    /// These may be read.
    pub read: Vec<PathBuf>,
    /// These may be read and written.
    pub write: Vec<PathBuf>,
}

/// What it takes to keep files in a folder: no device, no link, nothing to be executed.
fn keep() -> BitFlags<AccessFs> {
    use AccessFs::*;
    ReadFile | ReadDir | WriteFile | RemoveFile | MakeReg | MakeSock | MakeDir | Truncate
}

/// Holds this process to these folders. Gives the version of landlock that does, 0 where the kernel has none.
pub fn restrict(reach: &FolderRights) -> Result<u32, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    let mut ruleset = ruleset.handle_access(AccessFs::from_all(RIGHTS))?.scope(Scope::Signal)?.create()?;
    let rules = reach.read.iter().map(|path| (path, read)).chain(reach.write.iter().map(|path| (path, keep())));
    for (path, rights) in rules {
        // What is not there cannot be touched either.
        let Ok(held) = PathFd::new(path) else { continue };
        let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(RIGHTS) };
        ruleset = ruleset.add_rule(PathBeneath::new(held, rights))?;
    }
    let status = ruleset.restrict_self()?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } if status.ruleset != RulesetStatus::NotEnforced => effective_abi as u32,
        _ => 0,
    })
}

/// A folder and, unless that is the root of everything, the one that it lies in: it may be replaced.
pub fn with_parent(folder: &Path) -> Vec<PathBuf> {
    let parents = folder.parent().into_iter().filter(|parent| parent.parent().is_some()).map(Path::to_path_buf);
    parents.chain([folder.to_path_buf()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_everything_is_no_parent() {
        assert_eq!(with_parent(Path::new("/srv/tftp")), [Path::new("/srv"), Path::new("/srv/tftp")]);
        assert_eq!(with_parent(Path::new("/srv")), [Path::new("/srv")]);
        assert_eq!(with_parent(Path::new("/")), [Path::new("/")]);
    }
}
