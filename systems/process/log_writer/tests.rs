use super::*;
use bzip2::read::BzDecoder;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

const BASE: &str = "00000000000000000000000000000000-x.drv";

fn written(pieces: &[&[u8]], compress: bool) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let mut thread = LogThread::new().unwrap();
    let mut log = thread.open(directory.path(), BASE, compress).unwrap();
    for piece in pieces {
        thread.append(&mut log, piece);
    }
    let path = log.path().to_owned();
    assert_eq!(path, log_path(directory.path(), BASE, compress));
    thread.close(&mut log);
    drop(thread);
    let bytes = std::fs::read(path).unwrap();
    if !compress {
        return bytes;
    }
    let mut text = Vec::new();
    BzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
    text
}

#[test]
fn a_log_that_cannot_be_kept_up_with_says_so_until_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut thread = LogThread::new().unwrap();
    // Without a disk behind it, nothing can be written, and that must not count for ever.
    for path in [directory.path().join("log"), "/dev/full".into()] {
        let mut log = thread.open(directory.path(), BASE, true).unwrap();
        log.file = Some(
            File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .unwrap(),
        );
        let mut rounds = 0;
        let noise: Vec<u8> = (0..CHUNK_BYTES * 8)
            .map(|at| ((at * at) >> 7) as u8)
            .collect();
        while !log.is_behind() && rounds < 200 {
            thread.append(&mut log, &noise);
            rounds += 1;
        }
        let start = std::time::Instant::now();
        while log.is_behind() && start.elapsed().as_secs() < 60 {
            std::thread::yield_now();
        }
        assert!(!log.is_behind());
        thread.close(&mut log);
    }
}

#[test]
fn logs_of_every_length_are_kept_whole() {
    let long = vec![b'x'; 3 * CHUNK_BYTES + 1];
    for compress in [true, false] {
        assert_eq!(written(&[], compress), b"");
        assert_eq!(written(&[b"a", b"b\n"], compress), b"ab\n");
        assert_eq!(
            written(&[&long, b"end"], compress),
            [&long[..], b"end"].concat()
        );
    }
}

#[test]
fn a_log_is_seen_while_it_is_written_and_once_when_it_is_whole() {
    let long = vec![b'x'; 3 * CHUNK_BYTES + 1];
    for compress in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let plain = log_path(directory.path(), BASE, false);
        let mut thread = LogThread::new().unwrap();
        std::fs::create_dir_all(plain.parent().unwrap()).unwrap();
        std::fs::write(&plain, "of the build before").unwrap();
        let mut log = thread.open(directory.path(), BASE, compress).unwrap();
        assert_eq!(plain.exists(), !compress);
        let mut expected = Vec::new();
        for piece in [&b"a\n"[..], b"b", &long, b"", b"end"] {
            thread.append(&mut log, piece);
            thread.show(&mut log);
            expected.extend_from_slice(piece);
            let start = std::time::Instant::now();
            while std::fs::read(&plain).unwrap_or_default() != expected {
                assert!(start.elapsed().as_secs() < 60);
                std::thread::yield_now();
            }
            let mode = plain.metadata().unwrap().permissions().mode();
            assert!(windrow_store::logs::is_marked_cut(mode));
        }
        thread.append(&mut log, b"\n");
        expected.push(b'\n');
        thread.close(&mut log);
        drop(thread);
        let found = windrow_store::logs::find(directory.path(), BASE).unwrap();
        let found = found.unwrap();
        assert_eq!(found.is_compressed, compress);
        assert_eq!(plain.exists(), !compress);
        let mode = found.file.metadata().unwrap().permissions().mode();
        assert!(!windrow_store::logs::is_marked_cut(mode));
        let mut text = Vec::new();
        match compress {
            true => BzDecoder::new(found.file).read_to_end(&mut text).unwrap(),
            false => (&found.file).read_to_end(&mut text).unwrap(),
        };
        assert!(text == expected);
    }
}
