//! Compressed streams: the first byte says how, the rest is the stream.

use std::io::{Read as _, Write as _};

use windrow_net::compression::{Compression, decoder, encoder};

/// How much of what a stream holds is read, in bytes.
const LIMIT: u64 = 4 << 20;

/// Nothing is wrong but what an error says; and what is packed is unpacked.
pub fn check(bytes: &[u8]) {
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    let compression = Compression::ALL[usize::from(which) % Compression::ALL.len()];
    match decoder(compression, bytes) {
        Ok(reader) => {
            let mut read = Vec::new();
            if let Err(error) = reader.take(LIMIT).read_to_end(&mut read) {
                assert!(!error.to_string().is_empty());
            }
            assert!(read.len() as u64 <= LIMIT);
        }
        Err(_) => assert!(bytes.is_empty()),
    }
    let level = Some(*compression.levels().start());
    let mut encoder = encoder(compression, level, 1, Vec::new()).expect("there is such a level");
    encoder.write_all(bytes).expect("memory takes it");
    let packed = encoder.finish().expect("memory takes it");
    let mut again = Vec::new();
    let unpacked = decoder(compression, &packed[..]).and_then(|mut it| it.read_to_end(&mut again));
    unpacked.expect("it was packed here");
    assert!(again == bytes);
}

/// A stream of each compression, twice what it holds, and some that want much memory.
pub fn seeds() -> Vec<Vec<u8>> {
    let packed = (0_u8..).zip(Compression::ALL).flat_map(|(which, compression)| {
        let mut encoder = encoder(compression, None, 1, vec![which]).expect("a default level");
        encoder.write_all(&b"some text ".repeat(40)).expect("memory takes it");
        let one = encoder.finish().expect("memory takes it");
        let two = [&one[..], &one[1..]].concat();
        [one, two]
    });
    let number = |compression| Compression::ALL.iter().position(|&it| it == compression);
    let greedy = [
        (Compression::Zstd, &b"\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00"[..]),
        (Compression::Lzip, b"LZIP\x01\x1d\0\0\0\0\0\0\0\0"),
        (Compression::Brotli, b"\x11\x1e\x03\x00"),
        (Compression::Lz4, b"\x04\x22\x4d\x18\x44\x70\x1d\x00\x00\x00\x80"),
    ];
    let greedy = greedy.map(|(compression, bytes)| {
        let which = number(compression).expect("it is one of all") as u8;
        [&[which], bytes].concat()
    });
    packed.chain(greedy).collect()
}
