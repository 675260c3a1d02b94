//! Files with secret keys, and public keys and signatures as others give them.

use windrow_components::signing_key::{PublicKey, SecretKey};

use crate::shared::seeds as seeds_of;

/// What is read is written as the same key, and signs what its public half verifies.
pub fn check(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match SecretKey::parse(text) {
        Ok(key) => {
            let again = SecretKey::parse(&key.secret_text()).expect("what was written is read");
            assert_eq!(again.public_text(), key.public_text());
            assert_eq!(again.sign("x"), key.sign("x"));
            assert!(key.public().verifies("x", &key.sign("x")));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match PublicKey::parse(text) {
        Ok(key) => assert_eq!(PublicKey::parse(&key.to_string()), Ok(key)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let key = SecretKey::from_seed("cache.example.org-1", &[7; 32]);
    assert!(!key.public().verifies("x", text) || text == key.sign("x"));
}

/// A key, its public half and a signature, and texts that are almost one.
pub fn seeds() -> Vec<Vec<u8>> {
    let secret = SecretKey::from_seed("cache.example.org-1", &[7; 32]);
    let (public, signature) = (secret.public_text(), secret.sign("x"));
    let key = secret.secret_text();
    let wrapped = key.replace('/', "/\n");
    let cut = key[..key.len() - 4].to_owned();
    let texts = [format!("{key}\n"), wrapped, cut, public, signature, "x:".to_owned()];
    seeds_of(texts)
}
