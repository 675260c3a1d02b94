//! Archives that `builtin:unpack-channel` unpacks, and the compression around them.

use windrow_systems::builtin::fuzzing::unpack;
use windrow_sys::tree::delete_path;

/// How much of an archive is unpacked, in bytes.
const LIMIT: u64 = 1 << 20;

/// Nothing is written outside of the directory.
pub fn check(bytes: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let beside = directory.path().join("beside");
    std::fs::write(&beside, "beside").expect("a file");
    let out = directory.path().join("out");
    std::fs::create_dir(&out).expect("a directory");
    if let Err(error) = unpack(bytes, LIMIT, &out) {
        assert!(!error.to_string().is_empty());
    }
    let text = std::fs::read_to_string(&beside).expect("it is still there");
    assert_eq!(text, "beside");
    let left = std::fs::read_dir(directory.path()).map(Iterator::count);
    assert_eq!(left.ok(), Some(2));
    delete_path(&out).expect("it can be deleted");
}

/// One header and its contents.
fn entry(name: &str, kind: u8, link: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000755");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(format!("{:011o}", contents.len()).as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[148..156].fill(b' ');
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header.extend_from_slice(contents);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

/// Archives with entries of every kind, and an empty stream of each compression.
pub fn seeds() -> Vec<Vec<u8>> {
    let archive = |entries: &[Vec<u8>]| [entries.concat(), vec![0; 1024]].concat();
    vec![
        archive(&[
            entry("c/", b'5', "", b""),
            entry("c/file", b'0', "", b"contents"),
            entry("c/link", b'2', "file", b""),
            entry("c/hard", b'1', "c/file", b""),
        ]),
        archive(&[entry("../beside", b'0', "", b"x")]),
        archive(&[entry("l", b'2', "..", b""), entry("l/beside", b'0', "", b"x")]),
        archive(&[entry("h", b'1', "../beside", b""), entry("h", b'0', "", b"x")]),
        archive(&[entry("fifo", b'6', "", b"")]),
        archive(&[entry("x", b'L', "", b"long-name\0"), entry("y", b'0', "", b"")]),
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0".to_vec(),
        b"BZh9\x17\x72\x45\x38\x50\x90\0\0\0\0".to_vec(),
        b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46\0\0\0\0\x1c\xdf\x44\x21\x1f\xb6\xf3\x7d\x01\0\0\0\0\x04YZ"
            .to_vec(),
        // A dictionary and a window of four gigabytes, and nothing to fill them with.
        b"\xfd7zXZ\0\0\x01\x69\x22\xde\x36\x02\0\x21\x01\x28\0\0\0\xe6\xa0\x11\xb3\xe0\0\x63\0\x06\x5d\0\
            \x3c\x6e\x9e\0\0\0\0\0\0\x8f\x5d\x0e\x5e\0\x01\x1e\x64\xb5\x2f\x18\xbe\x90\x42\x99\x0d\x01\0\0\0\0\x01YZ"
            .to_vec(),
        b"\x28\xb5\x2f\xfd\x00\xff\x01\x00\x00".to_vec(),
        b"\x28\xb5\x2f\xfd\x24\0\x01\0\0\x99\xe9\xd8\x51".to_vec(),
    ]
}
