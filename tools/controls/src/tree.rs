// SPDX-License-Identifier: BSD-2-Clause
//! A copy of the source that may be broken.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ignore::WalkBuilder;

/// The copy, in the target folder of the source it was made from.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    /// What is built of it; kept for the next time.
    pub(crate) builds: PathBuf,
}

/// A file that was changed.
#[must_use = "it stays broken"]
pub(crate) struct Broken {
    path: PathBuf,
    before: String,
}

impl Tree {
    /// Copies everything that is not ignored.
    pub(crate) fn copy(source: &Path) -> Result<Self> {
        let folder = source.join("target/controls");
        let (root, builds) = (folder.join("tree"), folder.join("builds"));
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
        }
        for entry in WalkBuilder::new(source).hidden(false).build() {
            let entry = entry?;
            let path = entry.path();
            let below = path.strip_prefix(source)?;
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            if !is_file || below.starts_with("target") || below.starts_with(".git") {
                continue;
            }
            let to = root.join(below);
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::copy(path, &to).with_context(|| to.display().to_string())?;
        }
        Ok(Tree { root, builds })
    }

    /// Changes a file at the one place that has `from`.
    pub(crate) fn replace(&self, file: &Path, from: &str, to: &str) -> Result<Broken> {
        let path = self.root.join(file);
        let before = fs::read_to_string(&path).with_context(|| file.display().to_string())?;
        let places = before.matches(from).count();
        ensure!(
            places == 1,
            "{} has {places} times, not once, what a control would change:\n{from}",
            file.display()
        );
        fs::write(&path, before.replacen(from, to, 1))?;
        Ok(Broken { path, before })
    }
}

impl Broken {
    pub(crate) fn mend(self) -> Result<()> {
        fs::write(&self.path, &self.before).with_context(|| self.path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_one_place_and_mends_it() {
        let source = tempfile::tempdir().unwrap();
        fs::create_dir(source.path().join("target")).unwrap();
        fs::write(source.path().join("target/old"), "x").unwrap();
        fs::write(source.path().join("file"), "one two two").unwrap();
        let tree = Tree::copy(source.path()).unwrap();
        let read = || fs::read_to_string(tree.root.join("file")).unwrap();
        assert!(!tree.root.join("target").exists());
        for from in ["two", "three"] {
            assert!(tree.replace(Path::new("file"), from, "x").is_err());
        }
        let broken = tree.replace(Path::new("file"), "one", "1").unwrap();
        assert_eq!(read(), "1 two two");
        broken.mend().unwrap();
        assert_eq!(read(), "one two two");
    }
}
