//! Keys that store paths are signed with, in the text form of Nix's key files. Makes, reads and
//! prints them, signs with them and checks signatures; files and the randomness are the caller's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{
    KEYPAIR_LENGTH, PUBLIC_KEY_LENGTH, Signature, Signer as _, SigningKey, VerifyingKey,
};

/// Why a text is no secret key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has another form.
    #[error("it should be NAME:BASE64, as 'nix-store --generate-binary-cache-key' writes it")]
    Form,
    /// What follows the colon has another length.
    #[error("it should have {KEYPAIR_LENGTH} bytes, and has {0}; is it a public key?")]
    Length(usize),
    /// Its second half is not the public key of its first.
    #[error("its two halves do not belong together, so it is damaged")]
    Halves,
}

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

    /// Reads what [`SecretKey::secret_text`] writes, with line ends anywhere after the colon (Nix's
    /// `SecretKey`).
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = taken_apart(text)?;
        let bytes: &[u8; KEYPAIR_LENGTH] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| KeyError::Length(bytes.len()))?;
        let key = SigningKey::from_keypair_bytes(bytes).map_err(|_| KeyError::Halves)?;
        Ok(Self { name, key })
    }

    /// `NAME:BASE64` of the signature of `text`, as the database and narinfo files have it.
    pub fn sign(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes());
        format!("{}:{}", self.name, BASE64.encode(signature.to_bytes()))
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
        self.public().to_string()
    }

    /// The key that its signatures are checked with.
    pub fn public(&self) -> PublicKey {
        PublicKey {
            name: self.name.clone(),
            key: self.key.verifying_key(),
        }
    }
}

/// The name and the bytes of a text like `NAME:BASE64`, with line ends anywhere after the colon.
fn taken_apart(text: &str) -> Result<(String, Vec<u8>), KeyError> {
    let (name, encoded) = text.trim().split_once(':').ok_or(KeyError::Form)?;
    // A signature has its key's name, and a list of signatures has blanks between them.
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(KeyError::Form);
    }
    let encoded: String = encoded.split_ascii_whitespace().collect();
    let bytes = BASE64.decode(encoded).map_err(|_| KeyError::Form)?;
    Ok((name.to_owned(), bytes))
}

/// Why a text is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// It has another form.
    #[error("it should be NAME:BASE64, as caches publish it")]
    Form,
    /// What follows the colon has another length.
    #[error("it should have {PUBLIC_KEY_LENGTH} bytes, and has {0}{hint}", hint = secret_hint(*.0))]
    Length(usize),
    /// No point of the curve has these bytes.
    #[error("its bytes are those of no key, so it is damaged")]
    Bytes,
}

fn secret_hint(length: usize) -> &'static str {
    match length {
        KEYPAIR_LENGTH => "; it is a secret key, which nobody else should know",
        _ => "",
    }
}

/// A public key with the name by which signatures say that they are made with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// Reads `NAME:BASE64`, an entry of `trusted-public-keys`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self, PublicKeyError> {
        let (name, bytes) = taken_apart(text).map_err(|_| PublicKeyError::Form)?;
        let bytes: &[u8; PUBLIC_KEY_LENGTH] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| PublicKeyError::Length(bytes.len()))?;
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| PublicKeyError::Bytes)?;
        Ok(Self { name, key })
    }

    /// What stands before the colon.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `signature`, `NAME:BASE64`, was made with this key for `text`. As strict as
    /// libsodium, which Nix uses: there is one spelling of each signature, and weak keys sign
    /// nothing.
    pub fn verifies(&self, text: &str, signature: &str) -> bool {
        let Some((name, encoded)) = signature.split_once(':') else {
            return false;
        };
        let bytes = BASE64.decode(encoded).ok();
        let signature = bytes.and_then(|bytes| Signature::from_slice(&bytes).ok());
        name == self.name
            && signature.is_some_and(|it| self.key.verify_strict(text.as_bytes(), &it).is_ok())
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(self.key.as_bytes()))
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
        let signature = key.sign("");
        let signature = BASE64.decode(signature.strip_prefix("k-1:").unwrap());
        assert_eq!(
            crate::hash::base16(&signature.unwrap()),
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555\
             fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        );
    }

    #[test]
    fn keys_are_read_back_and_nothing_else_is() {
        let key = SecretKey::from_seed("k.example-1", &[7; 32]);
        let text = key.secret_text();
        let (name, encoded) = text.split_once(':').unwrap();
        let broken = format!("{name}:{}\n{}\n", &encoded[..40], &encoded[40..]);
        for text in [&text, &broken] {
            assert_eq!(SecretKey::parse(text).unwrap().sign("x"), key.sign("x"));
        }
        let of = |text: &str| SecretKey::parse(text).err();
        let other = SecretKey::from_seed("k", &[8; 32]).secret_text();
        let halves = format!("{}{}", &text[..60], &other[other.len() - 40..]);
        for (text, error) in [
            ("", KeyError::Form),
            ("name", KeyError::Form),
            (&format!(":{encoded}"), KeyError::Form),
            (&format!("a b:{encoded}"), KeyError::Form),
            (&format!("k:{encoded}!"), KeyError::Form),
            ("k:", KeyError::Length(0)),
            (&key.public_text(), KeyError::Length(32)),
        ] {
            assert_eq!(of(text), Some(error), "{text}");
        }
        assert!(of(&halves).is_some());
    }

    #[test]
    fn public_keys_are_read_and_check_signatures() {
        let key = SecretKey::from_seed("k-1", &[7; 32]);
        let public = PublicKey::parse(&key.public_text()).unwrap();
        assert_eq!(public, key.public());
        assert_eq!(
            (public.name(), public.to_string()),
            ("k-1", key.public_text())
        );
        let signature = key.sign("text");
        assert!(public.verifies("text", &signature));
        let renamed = signature.replace("k-1:", "k-2:");
        for (text, signature) in [
            ("texts", &*signature),
            ("text", &renamed),
            ("text", &signature[..40]),
            ("text", "k-1:"),
            ("text", "k-1"),
            ("text", &SecretKey::from_seed("k-1", &[8; 32]).sign("text")),
        ] {
            assert!(!public.verifies(text, signature), "{text} {signature}");
        }
        // A key of small order, for which signatures of all texts could be made.
        let weak = format!("k-1:{}", BASE64.encode([&[1][..], &[0; 31]].concat()));
        let any = format!("k-1:{}", BASE64.encode([&[1][..], &[0; 63]].concat()));
        assert!(!PublicKey::parse(&weak).is_ok_and(|key| key.verifies("text", &any)));
        for (text, expected) in [
            ("k", "NAME:BASE64"),
            ("k:AAAA", "and has 3"),
            (&*key.secret_text(), "it is a secret key"),
        ] {
            let error = PublicKey::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
