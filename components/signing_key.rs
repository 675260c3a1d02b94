//! Keys that store paths are signed with, in the text form of Nix's key files. Makes and prints
//! them; the randomness is the caller's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::SigningKey;

/// A secret key with the name under which others know it.
#[derive(Clone)]
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl SecretKey {
    /// The key that 32 random bytes give.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Self {
        Self {
            name: name.to_owned(),
            key: SigningKey::from_bytes(seed),
        }
    }

    /// `NAME:BASE64` of seed and public key, as a file of `secret-key-files` holds it.
    pub fn secret_text(&self) -> String {
        format!(
            "{}:{}",
            self.name,
            BASE64.encode(self.key.to_keypair_bytes())
        )
    }

    /// `NAME:BASE64` of the public key, as `trusted-public-keys` lists it.
    pub fn public_text(&self) -> String {
        format!(
            "{}:{}",
            self.name,
            BASE64.encode(self.key.verifying_key().as_bytes())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first test vector of RFC 8032, section 7.1.
    #[test]
    fn keys_are_those_of_the_standard() {
        let seed: Vec<u8> = (0..32)
            .map(|at| {
                let text = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
                u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()
            })
            .collect();
        let key = SecretKey::from_seed("k-1", seed.as_slice().try_into().unwrap());
        let public = BASE64
            .decode(key.public_text().strip_prefix("k-1:").unwrap())
            .unwrap();
        assert_eq!(
            crate::hash::base16(&public),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        let secret = BASE64
            .decode(key.secret_text().strip_prefix("k-1:").unwrap())
            .unwrap();
        assert_eq!(secret, [seed, public].concat());
    }
}
