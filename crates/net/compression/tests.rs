//! Packing and unpacking, with each compression.

use std::io::{self, BufReader, ErrorKind, Read as _, Write as _};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

#[test]
fn names_are_read_back_and_others_are_named() {
    for compression in Compression::ALL {
        assert_eq!(Compression::from_name(compression.name()), Ok(compression));
        assert!(Compression::NAMES.contains(compression.name()));
    }
    for (name, expected) in [
        ("lzma", "the compression 'lzma' is not supported"),
        ("XZ", "'XZ' is no compression"),
        ("", "'' is no compression"),
    ] {
        let error = Compression::from_name(name).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

fn packed(compression: Compression, level: Option<i32>, threads: usize, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = encoder(compression, level, threads, Vec::new()).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn pack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    packed(compression, None, 1, bytes)
}

fn unpack(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    decoder(compression, bytes)?.read_to_end(&mut text)?;
    Ok(text)
}

fn text(size: u32) -> Vec<u8> {
    (0..size / 4).flat_map(|n| (n / 7).to_le_bytes()).collect()
}

/// All but the one that changes nothing.
fn real() -> impl Iterator<Item = Compression> {
    Compression::ALL
        .into_iter()
        .filter(|&it| it != Compression::None)
}

#[test]
fn what_is_packed_is_unpacked() {
    let text = text(3 << 20);
    let mut byte = 0;
    for compression in Compression::ALL {
        for bytes in [&b""[..], b"x", &text] {
            let packed = pack(compression, bytes);
            assert!(
                unpack(compression, &packed).unwrap() == bytes,
                "{compression}"
            );
            // A source that gives a byte at a time, and a reader that takes one.
            if bytes.len() < 100 {
                let slow = BufReader::with_capacity(1, &packed[..]);
                let mut decoder = decoder(compression, slow).unwrap();
                let mut read = Vec::new();
                while let 1 = decoder.read(std::slice::from_mut(&mut byte)).unwrap() {
                    read.push(byte);
                }
                assert_eq!(read, bytes, "{compression}");
                assert_eq!(decoder.read(&mut [0; 9]).unwrap(), 0);
                assert_eq!(decoder.read(&mut []).unwrap(), 0);
            }
        }
    }
}

#[test]
fn streams_in_a_row_are_one() {
    let text = text(400_000);
    let (head, tail) = text.split_at(250_001);
    // Brotli has no way to tell two streams from one and garbage.
    for compression in real().filter(|&it| it != Compression::Brotli) {
        let empty = pack(compression, b"");
        let all = [pack(compression, head), empty, pack(compression, tail)].concat();
        assert!(unpack(compression, &all).unwrap() == text, "{compression}");
        let slow = BufReader::with_capacity(7, &all[..]);
        let mut read = Vec::new();
        decoder(compression, slow)
            .unwrap()
            .read_to_end(&mut read)
            .unwrap();
        assert!(read == text, "{compression}");
    }
    let xz = pack(Compression::Xz, b"x");
    for (padding, good) in [(4, true), (8, true), (3, false), (1, false)] {
        let padded = [&xz, &vec![0; padding][..]].concat();
        assert_eq!(unpack(Compression::Xz, &padded).is_ok(), good, "{padding}");
        let between = [&padded[..], &xz].concat();
        assert_eq!(unpack(Compression::Xz, &between).is_ok(), good, "{padding}");
    }
}

#[test]
fn what_ends_too_early_is_told_at_every_byte() {
    let small = text(400);
    for compression in real() {
        let packed = pack(compression, &small);
        for cut in 0..packed.len() {
            let error = unpack(compression, &packed[..cut]).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::UnexpectedEof,
                "{compression} {cut}: {error}"
            );
        }
        if compression != Compression::Brotli {
            let twice = [&packed[..], &packed].concat();
            for cut in packed.len() + 1..twice.len() {
                assert!(
                    unpack(compression, &twice[..cut]).is_err(),
                    "{compression} {cut}"
                );
            }
        }
    }
}

#[test]
fn what_is_behind_the_end_or_no_such_stream_is_refused() {
    for compression in real() {
        let packed = pack(compression, b"some text");
        for garbage in [&b"x"[..], b"garbage and more of it", &[0; 5], &[0xff; 64]] {
            let all = [&packed[..], garbage].concat();
            let answer = unpack(compression, &all);
            assert!(answer.is_err(), "{compression} {garbage:?}");
        }
        for other in ["<html>no such thing</html>", "PK\x03\x04", "nix-archive-1"] {
            assert!(
                unpack(compression, other.as_bytes()).is_err(),
                "{compression}"
            );
        }
    }
}

#[test]
fn damage_is_found() {
    let text = text(100_000);
    // Brotli has no checksums.
    for compression in real().filter(|&it| it != Compression::Brotli) {
        let packed = pack(compression, &text);
        for at in (0..packed.len()).step_by(packed.len() / 40 + 1) {
            let mut wrong = packed.clone();
            wrong[at] ^= 0x40;
            // Headers have bits without a meaning for the contents.
            let answer = unpack(compression, &wrong);
            assert!(
                answer.map_or(true, |read| read == text),
                "{compression} {at}"
            );
        }
        let mut wrong = packed.clone();
        wrong[packed.len() / 2] ^= 0x40;
        assert!(unpack(compression, &wrong).is_err(), "{compression}");
    }
}

#[test]
fn every_level_and_thread_gives_the_same_contents() {
    let text = text(300_000);
    for compression in Compression::ALL {
        let levels = compression.levels();
        for level in [*levels.start(), *levels.end()] {
            for threads in [0, 1, 3] {
                let packed = packed(compression, Some(level), threads, &text);
                assert!(
                    unpack(compression, &packed).unwrap() == text,
                    "{compression} {level}"
                );
            }
        }
        for level in [levels.start() - 1, levels.end() + 1] {
            let error = encoder(compression, Some(level), 1, Vec::new())
                .err()
                .unwrap();
            assert!(
                error.to_string().contains(&format!("no level {level}")),
                "{error}"
            );
        }
    }
}

#[test]
fn files_with_many_blocks_are_unpacked_by_several_threads_alike() {
    let text = text(30 << 20);
    let packed = packed(Compression::Xz, Some(0), 4, &text);
    assert!(unpack(Compression::Xz, &packed).unwrap() == text);
    let error = unpack(Compression::Xz, &packed[..packed.len() - 70]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn streams_that_want_more_memory_are_refused() {
    // A header is all that it takes to ask for memory.
    let xz = b"\xfd7zXZ\0\0\x01\x69\x22\xde\x36\x02\0\x21\x01\x28\0\0\0\xe6\xa0\x11\xb3\xe0\0\x63\0\x06\x5d\0\
        \x3c\x6e\x9e\0\0\0\0\0\0\x8f\x5d\x0e\x5e\0\x01\x1e\x64\xb5\x2f\x18\xbe\x90\x42\x99\x0d\x01\0\0\0\0\x01YZ";
    let error = unpack(Compression::Xz, xz).unwrap_err().to_string();
    assert!(error.contains("more than 64 MiB"), "{error}");
    let lzip = [&b"LZIP\x01\x1d"[..], &[0; 40]].concat();
    let error = unpack(Compression::Lzip, &lzip).unwrap_err().to_string();
    assert!(error.contains("more than 64 MiB"), "{error}");
    // A window of 128 MiB, which `zstd --ultra -22` asks for; and one of 2 TiB.
    for window in [0x88, 0xf8] {
        let zstd = [&b"\x28\xb5\x2f\xfd\x00"[..], &[window, 0x01, 0, 0]].concat();
        let error = unpack(Compression::Zstd, &zstd).unwrap_err().to_string();
        assert!(error.contains("more than 64 MiB"), "{window:x}: {error}");
    }
    let zstd = [&b"\x28\xb5\x2f\xfd\x00"[..], &[0x80, 0x01, 0, 0]].concat();
    assert_eq!(unpack(Compression::Zstd, &zstd).unwrap(), b"");
    // The extension with windows of up to 1 GiB.
    let brotli = [0x11, 0x1e, 0x03, 0x00];
    assert!(unpack(Compression::Brotli, &brotli).is_err());
}

#[test]
fn a_sink_that_is_full_is_told_at_the_end_at_the_latest() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for compression in real() {
        let mut encoder = encoder(compression, None, 1, Full).unwrap();
        let answer = encoder
            .write_all(b"x")
            .and_then(|()| encoder.finish().map(drop));
        assert!(answer.is_err(), "{compression}");
    }
}

/// What a program makes of bytes, if it is here.
fn filtered(program: &str, arguments: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped: there is no program '{program}' to compare with");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    Some(output.stdout)
}

#[test]
fn the_usual_programs_agree() {
    let text = text(2 << 20);
    for (compression, program, arguments) in [
        (Compression::Xz, "xz", &["-9"][..]),
        (Compression::Xz, "xz", &["-0", "--block-size=300000", "-T2"]),
        (Compression::Xz, "xz", &["-0", "--check=none"]),
        (Compression::Bzip2, "bzip2", &[]),
        (Compression::Gzip, "gzip", &["-9"]),
        (Compression::Zstd, "zstd", &["-19"]),
        (Compression::Zstd, "zstd", &["--ultra", "-20", "-T2"]),
        (Compression::Lz4, "lz4", &["-9"]),
        (Compression::Lz4, "lz4", &["-BD", "-BX", "--content-size"]),
        (Compression::Lz4, "lz4", &["--no-frame-crc"]),
        (Compression::Lzip, "lzip", &[]),
        (Compression::Brotli, "brotli", &["-c"]),
    ] {
        if let Some(theirs) = filtered(program, &[arguments, &["-c"]].concat(), &text) {
            assert!(
                unpack(compression, &theirs).unwrap() == text,
                "{program} {arguments:?}"
            );
            let ours = pack(compression, &text);
            let back = filtered(program, &["-d", "-c"], &ours).unwrap();
            assert!(back == text, "{program}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_bytes_come_back(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        repeat in 1_usize..40,
        which in 0..Compression::ALL.len(),
        threads in 1_usize..3,
        chunk in 1_usize..500,
    ) {
        let compression = Compression::ALL[which];
        let bytes = bytes.repeat(repeat);
        let level = Some(*compression.levels().start());
        let mut encoder = encoder(compression, level, threads, Vec::new()).unwrap();
        for part in bytes.chunks(chunk) {
            encoder.write_all(part).unwrap();
        }
        let packed = encoder.finish().unwrap();
        let slow = BufReader::with_capacity(chunk, &packed[..]);
        let mut read = Vec::new();
        decoder(compression, slow).unwrap().read_to_end(&mut read).unwrap();
        prop_assert!(read == bytes);
        let again = std::io::Cursor::new(packed);
        let mut read = Vec::new();
        decoder_ahead(compression, again).unwrap().read_to_end(&mut read).unwrap();
        prop_assert!(read == bytes);
    }
}

#[test]
fn memory_grows_with_levels_and_threads() {
    for compression in Compression::ALL {
        let needs = |level, threads| encoder_memory(compression, Some(level), threads);
        let levels = compression.levels();
        for level in levels.clone() {
            assert!(needs(level, 1) <= needs(level, 2) && needs(level, 2) <= needs(level, 8));
            assert!(level == *levels.start() || needs(level - 1, 1) <= needs(level, 1));
        }
    }
    // By its manual.
    assert_eq!(encoder_memory(Compression::Xz, None, 1), 94 << 20);
}
