//! Encryption at rest: keys, and bytes that are sealed by them. What of a store is sealed, and where, is in `store.rs` and
//! `snapshot.rs`.
//!
//! The master key is the operator's: 32 random bytes in a file or in the environment. Each write of an identity has a data key
//! of its own, which seals the record and lies beside it, wrapped. Data keys are wrapped by a key that is derived from the master
//! key and the store's id (HKDF-SHA256, RFC 5869), so that one master key may serve many stores and none's data keys open
//! another's. The master key's id is derived likewise: it tells keys apart and tells nothing of them.
//!
//! ```text
//! "FMR" | version (1 byte) | nonce (12 bytes) | AES-256-GCM-SIV of the message, and its tag (16 bytes)
//! ```
//! The associated data are magic, version and the store's key of the record, so that a record that is found under another key is
//! damaged.
//!
//! AES-GCM-SIV (RFC 8452) because a nonce that came twice, say after a folder was restored from a backup, would tell that two
//! messages are alike and nothing else: here data keys seal one message each, and what is wrapped are random keys, which never
//! are. With AES instructions it seals two to three times as many bytes a second as XChaCha20-Poly1305, whose long nonces
//! are the other way to be safe from this.

use std::fmt::{self, Write};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aes_gcm_siv::aead::AeadInOut;
use aes_gcm_siv::{Aes256GcmSiv, Key, KeyInit, Nonce, Tag};
use base64::Engine;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::record::{MAGIC, SEALED_VERSION};
use crate::error::Error;
use crate::runtime::private_file;

const KEY_BYTES: usize = 32;
const HEADER_BYTES: usize = 4;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// How long a wrapped data key is.
pub(super) const WRAPPED_KEY_BYTES: usize = HEADER_BYTES + NONCE_BYTES + KEY_BYTES + TAG_BYTES;

/// A key file has one line of at most 64 digits: what is much longer was named by mistake.
const FILE_BYTES_MAX: u64 = 1_024;

/// What tells keys apart: 8 bytes that are derived from a master key, and are no secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// *Errors*: [`Error::DataLoss`].
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self(bytes.try_into().map_err(|_| Error::DataLoss("the id of its key has another length"))?))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&digits(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key that a store is encrypted with. Wiped from memory when the last copy is dropped; `Debug` shows its id.
#[derive(Clone)]
pub struct MasterKey {
    bytes: Arc<Zeroizing<[u8; KEY_BYTES]>>,
    id: KeyId,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Others than its owner may read it.
    #[error(
        "the key file {path} can be read by others than its owner (mode {mode:03o}): make it the owner's alone by `chmod 600 \
         {path}`, and if somebody may have read it, make a new key and `facematch store rotate-key`",
        path = path.display()
    )]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What is stated is no key.
    #[error(
        "{origin} must be a key: one line of 32 bytes in base64 or hexadecimal digits, as `facematch store new-key` makes them"
    )]
    NotAKey {
        /// Where it is stated; never what.
        origin: String,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomBytes(#[source] getrandom::Error),
}

impl MasterKey {
    /// Makes a new one.
    ///
    /// *Errors*: [`KeyError::NoRandomBytes`].
    pub fn random() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(bytes.as_mut_slice()).map_err(KeyError::NoRandomBytes)?;
        Ok(Self::new(bytes))
    }

    /// Reads the one in a file.
    ///
    /// *Errors*: [`KeyError`]; on unix a file that others than its owner may read is one.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let unreadable = |source| KeyError::Unreadable { path: path.to_path_buf(), source };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        // Of the file that is open: its name may lead elsewhere by now.
        if let Some(mode) = private_file::mode_for_others(&file.metadata().map_err(unreadable)?) {
            return Err(KeyError::ReadableByOthers { path: path.to_path_buf(), mode });
        }
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize));
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text, &format!("the key file {}", path.display()))
    }

    /// Reads one line of base64 or hexadecimal digits; `origin` says where it is stated.
    ///
    /// *Errors*: [`KeyError::NotAKey`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        let is_key = if text.len() == 2 * KEY_BYTES {
            from_digits(text, bytes.as_mut_slice())
        } else {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text).map(Zeroizing::new);
            decoded.is_ok_and(|decoded| {
                decoded.len() == KEY_BYTES && {
                    bytes.copy_from_slice(&decoded);
                    true
                }
            })
        };
        if is_key { Ok(Self::new(bytes)) } else { Err(KeyError::NotAKey { origin: origin.to_owned() }) }
    }

    /// Returns the line that [`MasterKey::parse`] reads.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(self.bytes.as_slice()))
    }

    /// Returns what tells it from others.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Derives what wraps the data keys of a store.
    pub(super) fn of_store(&self, store_id: &str) -> StoreKey {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        derive(Some(store_id.as_bytes()), self.bytes.as_slice(), b"facematch data keys", key.as_mut_slice());
        StoreKey { id: self.id, wrapping: DataKey(key) }
    }

    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let mut id = [0; 8];
        derive(None, bytes.as_slice(), b"facematch key id", &mut id);
        Self { bytes: Arc::new(bytes), id: KeyId(id) }
    }
}

fn derive(salt: Option<&[u8]>, from: &[u8], what: &[u8], key: &mut [u8]) {
    #[expect(clippy::expect_used, reason = "HKDF gives up to 8,160 bytes; these are 32 at most")]
    Hkdf::<Sha256>::new(salt, from).expand(what, key).expect("a short key");
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Into a string: it cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_digits(text: &str, bytes: &mut [u8]) -> bool {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    text.as_bytes().as_chunks::<2>().0.iter().zip(bytes).all(|([high, low], byte)| match (digit(*high), digit(*low)) {
        (Some(high), Some(low)) => {
            *byte = (high << 4 | low) as u8;
            true
        }
        _ => false,
    })
}

/// What wraps the data keys of one store.
pub(super) struct StoreKey {
    id: KeyId,
    wrapping: DataKey,
}

impl StoreKey {
    /// Returns the master key's id.
    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// Seals a message by a data key of its own: the sealed message for `key`, and the wrapped data key for `data_key_key`.
    ///
    /// *Errors*: [`Error::Internal`] where the system gives no random bytes.
    pub(super) fn seal(&self, key: &[u8], data_key_key: &[u8], message: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let data_key = DataKey::random()?;
        Ok((data_key.seal(key, message)?, self.wrap(data_key_key, &data_key)?))
    }

    /// Opens what [`StoreKey::seal`] sealed.
    ///
    /// *Errors*: [`Error::DataLoss`].
    pub(super) fn open(
        &self,
        (key, sealed): (&[u8], &[u8]),
        (data_key_key, wrapped): (&[u8], &[u8]),
    ) -> Result<Vec<u8>, Error> {
        self.unwrap(data_key_key, wrapped)?.open(key, sealed)
    }

    /// *Errors*: [`Error::Internal`].
    pub(super) fn wrap(&self, key: &[u8], data_key: &DataKey) -> Result<Vec<u8>, Error> {
        self.wrapping.seal(key, data_key.0.as_slice())
    }

    /// *Errors*: [`Error::DataLoss`].
    pub(super) fn unwrap(&self, key: &[u8], wrapped: &[u8]) -> Result<DataKey, Error> {
        let bytes = Zeroizing::new(self.wrapping.open(key, wrapped)?);
        let mut data_key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            return Err(Error::DataLoss("its data key has another length"));
        }
        data_key.copy_from_slice(&bytes);
        Ok(DataKey(data_key))
    }
}

/// A key of one thing. Wiped from memory when dropped.
pub(super) struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

impl DataKey {
    /// *Errors*: [`Error::Internal`] where the system gives no random bytes.
    pub(super) fn random() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(bytes.as_mut_slice()).map_err(Error::internal)?;
        Ok(Self(bytes))
    }

    /// Returns a cipher for the frames of a file, which this key is used for and for nothing else.
    pub(super) fn frames(&self) -> FrameCipher {
        FrameCipher { cipher: self.cipher(), frames: 0 }
    }

    fn cipher(&self) -> Aes256GcmSiv {
        Aes256GcmSiv::new(<&Key<Aes256GcmSiv>>::from(&*self.0))
    }

    fn seal(&self, key: &[u8], message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(Error::internal)?;
        let mut sealed = Vec::with_capacity(HEADER_BYTES + NONCE_BYTES + message.len() + TAG_BYTES);
        sealed.extend_from_slice(MAGIC);
        sealed.push(SEALED_VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(message);
        let (_, body) = sealed.split_at_mut(HEADER_BYTES + NONCE_BYTES);
        let tag = self.cipher().encrypt_inout_detached(&Nonce::from(nonce), &associated(key), body.into());
        sealed.extend_from_slice(&tag.map_err(|_| Error::internal("a record is longer than any can be"))?);
        Ok(sealed)
    }

    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
        const TOO_SHORT: Error = Error::DataLoss("it is too short");
        let (header, sealed) = sealed.split_first_chunk::<HEADER_BYTES>().ok_or(TOO_SHORT)?;
        let [m0, m1, m2, version] = *header;
        if [m0, m1, m2] != *MAGIC {
            return Err(Error::DataLoss("it does not begin as a record"));
        }
        match version {
            SEALED_VERSION => {}
            ..SEALED_VERSION => return Err(Error::DataLoss("it is not encrypted, in a store that is")),
            _ => return Err(Error::DataLoss("a newer facematch wrote it")),
        }
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(TOO_SHORT)?;
        let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(TOO_SHORT)?;
        let mut message = body.to_vec();
        let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
        let opened =
            self.cipher().decrypt_inout_detached(&nonce, &associated(key), message.as_mut_slice().into(), &tag);
        opened.map_err(|_| Error::DataLoss("it cannot be decrypted"))?;
        Ok(message)
    }
}

fn associated(key: &[u8]) -> Vec<u8> {
    [MAGIC.as_slice(), &[SEALED_VERSION], key].concat()
}

/// Seals the frames of one file, in their order: a frame's number is its nonce.
pub(super) struct FrameCipher {
    cipher: Aes256GcmSiv,
    frames: u64,
}

impl FrameCipher {
    /// Seals a frame's body in its place and adds the tag.
    pub(super) fn seal(&mut self, kind: u8, body: &mut Vec<u8>) -> Result<(), Error> {
        let nonce = self.next_nonce();
        let tag = self.cipher.encrypt_inout_detached(&nonce, &[kind], body.as_mut_slice().into());
        body.extend_from_slice(&tag.map_err(|_| Error::internal("a frame is longer than any can be"))?);
        Ok(())
    }

    /// Opens a frame's body in its place and takes the tag away.
    ///
    /// *Errors*: [`Error::DataLoss`].
    pub(super) fn open(&mut self, kind: u8, body: &mut Vec<u8>) -> Result<(), Error> {
        const DAMAGED: Error = Error::DataLoss("it cannot be decrypted");
        let nonce = self.next_nonce();
        let (sealed, tag) = body.split_last_chunk_mut::<TAG_BYTES>().ok_or(DAMAGED)?;
        let (length, tag) = (sealed.len(), Tag::from(*tag));
        self.cipher.decrypt_inout_detached(&nonce, &[kind], sealed.into(), &tag).map_err(|_| DAMAGED)?;
        body.truncate(length);
        Ok(())
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = [0; NONCE_BYTES];
        if let Some((_, number)) = nonce.split_last_chunk_mut::<8>() {
            *number = self.frames.to_le_bytes();
        }
        self.frames += 1;
        Nonce::from(nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::parse(&digits(&[byte; 32]), "a test").expect("a key")
    }

    #[test]
    fn text_that_is_no_key_is_refused_and_not_told() {
        let hex = "0a".repeat(32);
        for text in
            ["", "secret", &hex[1..], &format!("{hex}0a"), &hex.replace('a', "g"), &"A".repeat(44), &"é".repeat(32)]
        {
            let error = MasterKey::parse(text, "SOMEWHERE").expect_err(text).to_string();
            assert!(
                error.starts_with("SOMEWHERE must be a key") && (text.is_empty() || !error.contains(text)),
                "{error}"
            );
        }
    }

    #[test]
    fn key_comes_back_from_its_text_and_tells_nothing_else() {
        let made = MasterKey::random().expect("a key");
        let back = MasterKey::parse(&format!("  {}\n", *made.to_text()), "a test").expect("a key");
        assert!(made.bytes == back.bytes && made.id() == back.id());
        assert_ne!(made.id(), MasterKey::random().expect("a key").id());
        let hex = MasterKey::parse(&digits(made.bytes.as_slice()), "a test").expect("a key");
        assert!(hex.bytes == made.bytes);
        assert_eq!(format!("{made:?}"), format!("MasterKey({})", made.id()));
        assert!(!digits(made.bytes.as_slice()).contains(&made.id().to_string()));
    }

    #[cfg(unix)]
    #[test]
    fn key_file_that_others_can_read_is_refused_with_the_remedy() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, key(7).to_text().as_bytes()).expect("written");
        for mode in [0o604, 0o640, 0o620, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            let error = MasterKey::read(&path).expect_err("refused").to_string();
            assert!(error.contains(&format!("(mode {mode:o})")) && error.contains("chmod 600"), "{error}");
        }
        for mode in [0o600, 0o400] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            assert!(MasterKey::read(&path).expect("a key").id() == key(7).id());
        }
    }

    #[test]
    fn sealed_record_is_damaged_wherever_it_is_changed_and_under_another_key() {
        let store = key(1).of_store("store");
        let (sealed, wrapped) = store.seal(b"i/ann", b"e/ann", b"a message").expect("sealed");
        let open = |store: &StoreKey, key: &[u8], sealed: &[u8], data_key_key: &[u8], wrapped: &[u8]| {
            store.open((key, sealed), (data_key_key, wrapped))
        };
        assert_eq!(open(&store, b"i/ann", &sealed, b"e/ann", &wrapped).expect("opened"), b"a message");
        assert!(!sealed.windows(4).any(|part| part == b"mess"));
        for at in 0..sealed.len().max(wrapped.len()) {
            for bit in [1, 0x80] {
                let (mut record, mut data_key) = (sealed.clone(), wrapped.clone());
                if let Some(byte) = record.get_mut(at) {
                    *byte ^= bit;
                    assert!(matches!(open(&store, b"i/ann", &record, b"e/ann", &wrapped), Err(Error::DataLoss(_))));
                }
                if let Some(byte) = data_key.get_mut(at) {
                    *byte ^= bit;
                    assert!(matches!(open(&store, b"i/ann", &sealed, b"e/ann", &data_key), Err(Error::DataLoss(_))));
                }
            }
            assert!(open(&store, b"i/ann", &sealed[..at.min(sealed.len() - 1)], b"e/ann", &wrapped).is_err());
        }
        for (other, context) in [(key(1).of_store("another"), "store"), (key(2).of_store("store"), "master key")] {
            assert!(open(&other, b"i/ann", &sealed, b"e/ann", &wrapped).is_err(), "another {context}");
        }
        assert!(open(&store, b"i/bob", &sealed, b"e/ann", &wrapped).is_err());
        assert!(open(&store, b"i/ann", &sealed, b"e/bob", &wrapped).is_err());
    }

    #[test]
    fn same_message_is_never_sealed_twice_alike() {
        let store = key(1).of_store("store");
        let seal = || store.seal(b"i/ann", b"e/ann", b"a message").expect("sealed");
        let ((sealed, wrapped), (sealed_again, wrapped_again)) = (seal(), seal());
        assert!(sealed != sealed_again && wrapped != wrapped_again);
        assert!(store.open((b"i/ann", &sealed), (b"e/ann", &wrapped_again)).is_err());
    }

    #[test]
    fn frame_of_another_place_or_kind_does_not_open() {
        let data_key = DataKey::random().expect("a key");
        let sealed = |frames: u64| {
            let (mut cipher, mut body) = (data_key.frames(), b"a body".to_vec());
            cipher.frames = frames;
            cipher.seal(2, &mut body).expect("sealed");
            body
        };
        let opens = |kind, mut body: Vec<u8>| data_key.frames().open(kind, &mut body).is_ok_and(|()| body == b"a body");
        assert!(opens(2, sealed(0)));
        assert!(!opens(3, sealed(0)) && !opens(2, sealed(1)) && !opens(2, Vec::new()));
    }
}
