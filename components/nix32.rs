//! Base 32 as Nix spells it: an alphabet of its own and the last group first. Knows nothing of what
//! is encoded.

/// The 32 digits: no e, o, u, t, so that hashes spell no words.
pub const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

const INVALID: u8 = 0xff;

const VALUES: [u8; 256] = {
    let mut values = [INVALID; 256];
    let mut digit = 0;
    while digit < 32 {
        values[ALPHABET[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

/// The number of digits that `bytes` bytes take.
pub const fn encoded_len(bytes: usize) -> usize {
    if bytes == 0 {
        0
    } else {
        (bytes * 8 - 1) / 5 + 1
    }
}

/// Whether `byte` is a digit of the alphabet.
pub const fn is_digit(byte: u8) -> bool {
    VALUES[byte as usize] != INVALID
}

/// Encodes `bytes` (Nix's `printHash32`).
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(encoded_len(bytes.len()));
    for group in (0..encoded_len(bytes.len())).rev() {
        let bit = group * 5;
        let (byte, shift) = (bit / 8, bit % 8);
        let low = u16::from(bytes[byte]) >> shift;
        let high = bytes
            .get(byte + 1)
            .map_or(0, |&next| u16::from(next) << (8 - shift));
        text.push(char::from(ALPHABET[usize::from((low | high) & 31)]));
    }
    text
}

/// Decodes `text` into exactly `out.len()` bytes; `None` if the length is wrong, a digit is not in
/// the alphabet, or the first group has bits beyond the last byte.
pub fn decode_into(text: &[u8], out: &mut [u8]) -> Option<()> {
    if text.len() != encoded_len(out.len()) {
        return None;
    }
    out.fill(0);
    for (group, &digit) in text.iter().rev().enumerate() {
        let value = VALUES[usize::from(digit)];
        if value == INVALID {
            return None;
        }
        let bit = group * 5;
        let (byte, shift) = (bit / 8, bit % 8);
        let wide = u16::from(value) << shift;
        out[byte] |= wide as u8;
        let carry = (wide >> 8) as u8;
        match out.get_mut(byte + 1) {
            Some(next) => *next |= carry,
            None if carry != 0 => return None,
            None => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_character_holds_the_lowest_bits() {
        let mut bytes = [0; 20];
        bytes[0] = 1;
        assert_eq!(encode(&bytes), format!("{}1", "0".repeat(31)));
        bytes[0] = 0;
        bytes[19] = 0x80;
        assert_eq!(encode(&bytes), format!("h{}", "0".repeat(31)));
    }

    #[test]
    fn lengths_are_those_of_nix() {
        assert_eq!([16, 20, 32, 64].map(encoded_len), [26, 32, 52, 103]);
    }

    #[test]
    fn surplus_bits_and_foreign_digits_are_refused() {
        let mut out = [0; 32];
        assert!(decode_into("z".repeat(52).as_bytes(), &mut out).is_none());
        assert!(decode_into("e".repeat(52).as_bytes(), &mut out).is_none());
        assert!(decode_into(b"00", &mut out).is_none());
        assert!(decode_into("0".repeat(52).as_bytes(), &mut out).is_some());
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            let mut out = vec![0; bytes.len()];
            prop_assert!(decode_into(encode(&bytes).as_bytes(), &mut out).is_some());
            prop_assert_eq!(out, bytes);
        }
    }
}
