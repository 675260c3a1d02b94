//! What this program consists of as a process: its file, its loader and the libraries it has
//! loaded. A sandbox shows these in a directory of their own, wherever they lie, so that the
//! program runs where nothing else of the machine is.

use std::ffi::{CStr, CString, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use windrow_sandbox::paths::{SandboxPath, Shown};
use windrow_sandbox::process::launch::action::c_path;

/// Where a sandbox shows the engine's own files.
const DIR: &str = "/.windrow";

/// Where a sandbox shows one of the engine's own files.
pub(super) fn shown_at(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// A file of this machine, at that place in the sandbox.
pub(super) fn show(target: PathBuf, source: &Path) -> (SandboxPath, Shown) {
    let path = SandboxPath {
        target,
        source: source.to_owned(),
        optional: false,
    };
    (path, Shown::File)
}

/// What a C library of before 2.34 loads to look up hosts.
const NAME_SERVICES: [&str; 3] = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];

/// The running program, as another process may run it.
#[derive(Debug)]
pub(super) struct Program {
    file: PathBuf,
    /// Device and inode of the file.
    identity: (u64, u64),
    /// What the kernel would start to load it, if it is not static.
    loader: Option<PathBuf>,
    libraries: Vec<PathBuf>,
}

impl Program {
    /// That of this process.
    ///
    /// # Errors
    /// When its files are not to be found.
    pub(super) fn of_this_process() -> Result<Self, String> {
        let unknown = |error| format!("cannot find the file of the program windrow: {error}");
        let own = Path::new("/proc/self/exe");
        let own = own.metadata().map_err(unknown)?;
        let objects = Objects::loaded();
        let mut libraries: Vec<PathBuf> = Vec::new();
        let beside = objects
            .libraries
            .iter()
            .find(|path| path.file_name() == Some(OsStr::new("libc.so.6")))
            .and_then(|path| path.parent());
        let services = beside.map(|dir| NAME_SERVICES.map(|name| dir.join(name)));
        for path in objects
            .libraries
            .iter()
            .chain(services.iter().flatten())
            .filter(|path| path.is_file())
        {
            let name = path.file_name();
            if !libraries.iter().any(|known| known.file_name() == name) {
                libraries.push(path.clone());
            }
        }
        Ok(Self {
            file: std::env::current_exe().map_err(unknown)?,
            identity: (own.dev(), own.ino()),
            loader: objects.loader,
            libraries,
        })
    }

    /// What a sandbox must show for it.
    ///
    /// # Errors
    /// When the file is another one by now.
    pub(super) fn shown(&self) -> Result<Vec<(SandboxPath, Shown)>, String> {
        let same = self.file.metadata().is_ok_and(|now| {
            let identity = (now.dev(), now.ino());
            identity == self.identity
        });
        if !same {
            return Err(format!(
                "the program '{}' has been replaced since windrow was started; start it again",
                self.file.display()
            ));
        }
        let mut shown = vec![show(shown_at("windrow"), &self.file)];
        if let Some(loader) = &self.loader {
            shown.push(show(shown_at("loader"), loader));
            let libraries = self.libraries.iter().filter_map(|path| {
                let target = shown_at("lib").join(path.file_name()?);
                Some(show(target, path))
            });
            shown.extend(libraries);
        }
        Ok(shown)
    }

    /// What to execute in a sandbox that shows it, and its arguments, of which `more` are the
    /// program's own. The loader is told where the libraries are; it finds none by itself there.
    pub(super) fn invocation(&self, more: &[CString]) -> (CString, Vec<CString>) {
        let file = c_path(shown_at("windrow"));
        let (program, mut args) = match &self.loader {
            Some(_) => {
                let loader = c_path(shown_at("loader"));
                let libraries = c_path(shown_at("lib"));
                let args = vec![loader.clone(), c"--library-path".into(), libraries, file];
                (loader, args)
            }
            None => (file.clone(), vec![file]),
        };
        args.extend_from_slice(more);
        (program, args)
    }
}

/// What the dynamic loader has loaded.
#[derive(Debug, Default)]
struct Objects {
    loader: Option<PathBuf>,
    libraries: Vec<PathBuf>,
    seen: usize,
}

impl Objects {
    fn loaded() -> Self {
        let mut objects = Self::default();
        // SAFETY: the callback gets the address of `objects`, which nobody else uses until it
        // returns, and does not unwind.
        unsafe { libc::dl_iterate_phdr(Some(collect), (&raw mut objects).cast::<c_void>()) };
        objects
    }

    /// Takes note of one object; the first is the program itself.
    fn add(&mut self, name: &[u8], interpreter: Option<&[u8]>) {
        self.seen += 1;
        let absolute = |bytes: &[u8]| std::path::absolute(OsStr::from_bytes(bytes)).ok();
        if self.seen == 1 {
            self.loader = interpreter.and_then(absolute);
        } else if name.contains(&b'/') {
            // What has no path, such as the kernel's own, is in no file.
            self.libraries.extend(absolute(name));
        }
    }
}

/// Called by the loader for each object.
unsafe extern "C" fn collect(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    objects: *mut c_void,
) -> c_int {
    // SAFETY: the loader passes a valid structure, and `loaded` the address of its `Objects`. The
    // headers are as many as stated; the name is null or NUL-terminated; an interpreter is a
    // NUL-terminated string in a segment that stays mapped.
    unsafe {
        let (info, objects) = (&*info, &mut *objects.cast::<Objects>());
        let name = match info.dlpi_name.is_null() {
            true => &[],
            false => CStr::from_ptr(info.dlpi_name).to_bytes(),
        };
        let headers = match info.dlpi_phdr.is_null() {
            true => &[],
            false => std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()),
        };
        let interpreter = headers
            .iter()
            .find(|header| header.p_type == libc::PT_INTERP);
        let interpreter = interpreter.map(|header| {
            let address = info.dlpi_addr.wrapping_add(header.p_vaddr) as usize;
            CStr::from_ptr(std::ptr::with_exposed_provenance(address)).to_bytes()
        });
        objects.add(name, interpreter);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_found_with_all_it_needs() {
        let program = Program::of_this_process().unwrap();
        let shown = program.shown().unwrap();
        let at = |name: &str| {
            let target = shown_at(name);
            let found = shown.iter().find(|(path, _)| path.target == target);
            found.map(|(path, _)| path.source.clone())
        };
        assert_eq!(at("windrow"), std::env::current_exe().ok());
        let (file, args) = program.invocation(&[c"more".into()]);
        if program.loader.is_none() {
            assert_eq!((shown.len(), args.len()), (1, 2));
            return;
        }
        assert!(at("loader").unwrap().is_file());
        assert_eq!(file.to_str().unwrap(), "/.windrow/loader");
        assert_eq!(args.last().unwrap().to_str().unwrap(), "more");
        for (path, kind) in &shown {
            assert!(path.source.is_file() && *kind == Shown::File, "{path:?}");
        }
        // All that is mapped with a path is shown.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let known: Vec<_> = shown
            .iter()
            .filter_map(|(path, _)| path.source.canonicalize().ok())
            .collect();
        for path in maps.lines().filter_map(|line| line.split_once('/')) {
            let path = PathBuf::from(format!("/{}", path.1));
            let library = path.to_string_lossy().contains(".so");
            assert!(!library || known.contains(&path), "{}", path.display());
        }
    }

    #[test]
    fn a_program_that_was_replaced_is_not_shown() {
        let mut program = Program::of_this_process().unwrap();
        program.file = "/dev/null".into();
        assert!(program.shown().unwrap_err().contains("replaced"));
    }
}
