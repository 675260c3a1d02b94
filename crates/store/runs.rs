//! The runs that work in a store at this moment: each keeps a file of its own, locked as long as it
//! lives, in which it tells what it does. The file of a run that was killed is nobody's any more,
//! and deleted by whoever sees it. Nothing here is needed to build, or survives a crash.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use windrow_components::run_record::RunRecord;
use windrow_sys::flock::{try_lock_exclusive, try_lock_shared};

use crate::Layout;

/// How many names are tried for a run: another may have the number of this process, from another
/// PID namespace, or be in the same process.
const ATTEMPTS: u32 = 1000;

/// How the file is called that is to take the place of another.
const NEXT: &str = "new";

/// How many bytes are read of a file at a time. A run keeps its own far shorter.
const READ_MAX: u64 = 64 << 20;

/// The file of a run of this process. Dropped, it goes.
#[derive(Debug)]
pub struct RunFile {
    path: PathBuf,
    file: File,
    length: u64,
}

impl RunFile {
    /// Makes one that begins with these bytes.
    ///
    /// # Errors
    /// When this user may not, or there is no room: what others would see of the run they don't
    /// see then.
    pub fn create(layout: &Layout, begins_with: &[u8]) -> io::Result<Self> {
        let dir = layout.runs_dir();
        let mut make = DirBuilder::new();
        make.recursive(true).mode(0o755).create(&dir)?;
        for number in 0..ATTEMPTS {
            let path = dir.join(format!("{}-{number}", std::process::id()));
            if let Some(file) = create_locked(&path)? {
                let length = 0;
                let mut run = Self { path, file, length };
                run.append(begins_with)?;
                return Ok(run);
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Adds whole lines.
    ///
    /// # Errors
    /// When they can't be written. The last one may be cut then.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Puts these lines in the place of all there are. Whoever reads those finds their end first.
    ///
    /// # Errors
    /// When they can't be written; all is as it was then.
    pub fn replace(&mut self, lines: &[u8]) -> io::Result<()> {
        let next = self.path.with_added_extension(NEXT);
        // That of a process which had the same number and was killed in between.
        let _ = fs::remove_file(&next);
        let mut file = create_locked(&next)?.ok_or(ErrorKind::AlreadyExists)?;
        let replaced = file
            .write_all(lines)
            .and_then(|()| fs::rename(&next, &self.path));
        if let Err(error) = replaced {
            let _ = fs::remove_file(&next);
            return Err(error);
        }
        (self.file, self.length) = (file, lines.len() as u64);
        Ok(())
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        // Otherwise the next one who looks deletes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes and locks a file that others can read. `None` if the name is taken, or somebody took the
/// file for that of a dead run before it was locked.
fn create_locked(path: &Path) -> io::Result<Option<File>> {
    let made = File::options()
        .read(true)
        .append(true)
        .create_new(true)
        .mode(0o644)
        .open(path);
    let file = match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
        made => made?,
    };
    let ours = try_lock_exclusive(&file)? && file.metadata()?.nlink() > 0;
    Ok(ours.then_some(file))
}

/// The file of a run, as others read it.
#[derive(Debug)]
pub struct RunReader {
    path: PathBuf,
    file: File,
    /// What has come of a line that has no end yet.
    partial: Vec<u8>,
}

/// The runs that work in a store, if any user's files may be read. Those of dead runs are deleted.
///
/// # Errors
/// When the directory can't be read. That there is none is no error.
pub fn living(layout: &Layout) -> io::Result<Vec<RunReader>> {
    let entries = match fs::read_dir(layout.runs_dir()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut runs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_next = path.extension().is_some_and(|it| it == NEXT);
        // What is no such file, or can't be read, is nobody's business here.
        if let Ok(Some(file)) = open_living(&path)
            && !is_next
        {
            runs.push(RunReader::new(path, file));
        }
    }
    runs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(runs)
}

/// Opens the file of a run that lives. That of a dead one is deleted.
fn open_living(path: &Path) -> io::Result<Option<File>> {
    // Once more for each that was replaced just then.
    for _ in 0..10 {
        let opened = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        let file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        if try_lock_shared(&file)? {
            // Of several who find it one deletes it, and no file that has its name by then.
            if file.metadata()?.nlink() > 0 && try_lock_exclusive(&file)? {
                let _ = fs::remove_file(path);
                return Ok(None);
            }
        } else if file.metadata()?.nlink() > 0 {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

impl RunReader {
    fn new(path: PathBuf, file: File) -> Self {
        let partial = Vec::new();
        Self {
            path,
            file,
            partial,
        }
    }

    /// Where it lies; no other run has the same place while this one lasts.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who may be asked about the open file: its owner is the user of the run.
    ///
    /// # Errors
    /// When the system can't tell.
    pub fn metadata(&self) -> io::Result<fs::Metadata> {
        self.file.metadata()
    }

    /// What the run has told since this was last asked, in whole lines; what is no record is passed
    /// over. `None` if the run is over and has told no more.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn news(&mut self) -> io::Result<Option<Vec<RunRecord>>> {
        loop {
            // Asked first, so that what was told before the end is read.
            let is_over = self.is_over()?;
            let records = self.read()?;
            if !records.is_empty() || !is_over {
                return Ok(Some(records));
            }
            match open_living(&self.path)? {
                Some(file) => *self = Self::new(std::mem::take(&mut self.path), file),
                None => return Ok(None),
            }
        }
    }

    /// Whether nothing more comes in this file.
    fn is_over(&self) -> io::Result<bool> {
        if self.file.metadata()?.nlink() == 0 {
            return Ok(true);
        }
        let is_over = try_lock_shared(&self.file)?;
        if is_over {
            self.file.unlock()?;
        }
        Ok(is_over)
    }

    fn read(&mut self) -> io::Result<Vec<RunRecord>> {
        let mut bytes = std::mem::take(&mut self.partial);
        (&self.file).take(READ_MAX).read_to_end(&mut bytes)?;
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
        if (bytes.len() - whole) as u64 <= READ_MAX {
            self.partial = bytes.split_off(whole);
        }
        bytes.truncate(whole);
        let lines = bytes.split(|&byte| byte == b'\n');
        Ok(lines.filter_map(RunRecord::parse).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::scratch;
    use std::os::unix::fs::symlink;

    fn line(id: u64) -> Vec<u8> {
        let mut line = Vec::new();
        RunRecord::Exit { id }.write(&mut line);
        line
    }

    fn ids(reader: &mut RunReader) -> Option<Vec<u64>> {
        let records = reader.news().unwrap()?;
        Some(records.iter().filter_map(RunRecord::id).collect())
    }

    #[test]
    fn what_a_run_tells_is_read_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        assert!(living(&layout).unwrap().is_empty(), "there is no directory");
        let mut run = RunFile::create(&layout, &line(1)).unwrap();
        let mut other = RunFile::create(&layout, &line(7)).unwrap();
        let [mut reader, _] = living(&layout).unwrap().try_into().unwrap();
        assert_eq!(ids(&mut reader), Some(vec![1]));
        assert_eq!(ids(&mut reader), Some(vec![]));
        run.append(&[&line(2)[..], b"rubbish\n", &line(3)[..9]].concat())
            .unwrap();
        assert_eq!(ids(&mut reader), Some(vec![2]));
        run.append(&line(3)[9..]).unwrap();
        assert_eq!(ids(&mut reader), Some(vec![3]));
        run.append(&line(4)).unwrap();
        run.replace(&line(5)).unwrap();
        assert_eq!(run.length(), line(5).len() as u64);
        run.append(&line(6)).unwrap();
        assert_eq!(ids(&mut reader), Some(vec![4]), "the end of the old one");
        assert_eq!(ids(&mut reader), Some(vec![5, 6]));
        run.append(&line(8)).unwrap();
        drop(run);
        assert_eq!(ids(&mut reader), Some(vec![8]));
        assert_eq!(ids(&mut reader), None);
        assert_eq!(living(&layout).unwrap().len(), 1);
        other.append(b"").unwrap();
        drop(other);
        assert_eq!(fs::read_dir(layout.runs_dir()).unwrap().count(), 0);
    }

    #[test]
    fn files_of_the_dead_go_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        let run = RunFile::create(&layout, &line(1)).unwrap();
        let dir = layout.runs_dir();
        fs::write(dir.join("1-0"), line(2)).unwrap();
        fs::write(dir.join("1-0.new"), "").unwrap();
        fs::create_dir(dir.join("directory")).unwrap();
        symlink("/etc/passwd", dir.join("link")).unwrap();
        nix::unistd::mkfifo(&dir.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Two who look at once.
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| living(&layout).unwrap());
            }
        });
        assert_eq!(living(&layout).unwrap().len(), 1);
        let mut names: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        let own = run.path.file_name().unwrap();
        let mut expected = ["directory", "link", "pipe"].map(Into::into).to_vec();
        expected.push(own.to_owned());
        expected.sort();
        assert_eq!(names, expected);
    }

    #[test]
    fn a_file_without_a_reader_for_it_is_no_run() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        let dir = layout.runs_dir();
        fs::create_dir_all(&dir).unwrap();
        let file = File::create(dir.join("1-0")).unwrap();
        assert!(try_lock_exclusive(&file).unwrap());
        fs::write(dir.join("1-0"), [0xff; 300]).unwrap();
        let [mut reader] = living(&layout).unwrap().try_into().unwrap();
        assert_eq!(ids(&mut reader), Some(vec![]));
        drop(file);
        assert_eq!(ids(&mut reader), None);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }
}
