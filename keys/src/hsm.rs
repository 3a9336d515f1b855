//! The root key under a key that never leaves a hardware token, over PKCS#11: the token encrypts and decrypts thirty-two
//! bytes, AES-256-GCM, and we never see the key it does so with. The only file that loads a C library.
//!
//! Never here: a session kept open, a PIN kept, or a key in the token that could be read out of it: such a key is refused.
//! A token that is gone, locked, or of another name is said by name. Used at start, on command and seldom: one at a time.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::secret::{SECRET_BYTES, Secret, random_array};

pub(crate) const NONCE_BYTES: usize = 12;
/// Ciphertext and tag, as the token gives them.
pub(crate) const WRAPPED_BYTES: usize = SECRET_BYTES + 16;
const TAG_BITS: u64 = 128;
const KEY_BYTES: u64 = 32;
const AAD: &[u8] = b"sallyport/root-hsm/v1";

/// Where the key is that the root key is wrapped under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HsmKey {
    /// The token's PKCS#11 library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The key's label.
    pub key: String,
}

/// Why the token did not do what was asked. None of these holds the PIN.
#[derive(Debug, thiserror::Error)]
pub enum HsmError {
    /// The library does not load.
    #[error("the PKCS#11 library {0} does not load: {1}")]
    Module(PathBuf, String),
    /// No slot has a token of this label.
    #[error("no token with the label {0} is there: is it plugged in, its daemon running?")]
    NoToken(String),
    /// The PIN is wrong.
    #[error("the token does not take this PIN; after a few wrong ones it locks itself")]
    Pin,
    /// Too many wrong PINs were given.
    #[error("the token has locked its PIN: its security officer unlocks it")]
    Locked,
    /// The token holds no such key.
    #[error("the token holds no secret key with the label {0}, or two of them")]
    NoKey(String),
    /// A key of that name stands there already; it is never overwritten.
    #[error("the token holds a key with the label {0} already")]
    KeyExists(String),
    /// The key can be read out of the token, or is no 256-bit AES key.
    #[error(
        "the key {0} is no AES-256 key that stays in the token: make another one (sensitive, not extractable)"
    )]
    Soft(String),
    /// The key does not open what another one wrapped, or the file was altered.
    #[error("the token's key does not open the root file")]
    Wrapped,
    /// Whatever else the token said.
    #[error("the token: {0}")]
    Failed(String),
}

impl From<Error> for HsmError {
    fn from(error: Error) -> Self {
        match error {
            Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                _,
            ) => Self::Pin,
            Error::Pkcs11(RvError::PinLocked, _) => Self::Locked,
            Error::Pkcs11(
                RvError::TokenNotPresent | RvError::TokenNotRecognized | RvError::DeviceRemoved,
                _,
            ) => Self::Failed("it was taken away".to_owned()),
            Error::Pkcs11(code, function) => Self::Failed(format!("{code:?} at {function:?}")),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// `AES-256-GCM(token's key, nonce, secret, AAD)`; the nonce is ours and random, and such a call is made a few times in
/// the token's life.
pub(crate) fn wrap(
    place: &HsmKey,
    pin: &[u8],
    secret: &Secret,
) -> Result<([u8; NONCE_BYTES], [u8; WRAPPED_BYTES]), HsmError> {
    with_token(place, pin, Access::Read, |session| {
        let nonce: [u8; NONCE_BYTES] = random_array();
        let mut iv = nonce;
        let key = key(session, place)?;
        let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, AAD, TAG_BITS.into())?);
        let wrapped = session.encrypt(&mechanism, key, secret.expose())?;
        let wrapped = wrapped.try_into();
        let short = |_| HsmError::Failed("what it encrypted has another length".to_owned());
        Ok((nonce, wrapped.map_err(short)?))
    })
}

/// The way back.
pub(crate) fn unwrap(
    place: &HsmKey,
    pin: &[u8],
    nonce: &[u8; NONCE_BYTES],
    wrapped: &[u8; WRAPPED_BYTES],
) -> Result<Secret, HsmError> {
    with_token(place, pin, Access::Read, |session| {
        let mut iv = *nonce;
        let key = key(session, place)?;
        let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, AAD, TAG_BITS.into())?);
        let opened = session.decrypt(&mechanism, key, wrapped);
        let opened = opened.map(Zeroizing::new).map_err(|error| match error {
            Error::Pkcs11(
                RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                | RvError::GeneralError,
                _,
            ) => HsmError::Wrapped,
            other => other.into(),
        })?;
        Secret::from_slice(&opened).ok_or(HsmError::Wrapped)
    })
}

/// Makes the key in the token: AES-256, for good, sensitive and not extractable.
///
/// # Errors
/// [`HsmError`]; a key of that name is never overwritten.
pub fn make_hsm_key(place: &HsmKey, pin: &[u8]) -> Result<(), HsmError> {
    with_token(place, pin, Access::Write, |session| {
        if !session.find_objects(&labelled(place))?.is_empty() {
            return Err(HsmError::KeyExists(place.key.clone()));
        }
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(KEY_BYTES.into()),
            Attribute::Label(place.key.as_bytes().to_vec()),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
        ];
        session.generate_key(&Mechanism::AesKeyGen, &template)?;
        key(session, place).map(drop)
    })
}

fn labelled(place: &HsmKey) -> [Attribute; 2] {
    [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Label(place.key.as_bytes().to_vec()),
    ]
}

/// The one key of that name, if nobody can read it out of the token.
fn key(session: &Session, place: &HsmKey) -> Result<ObjectHandle, HsmError> {
    let found = session.find_objects(&labelled(place))?;
    let [key] = found.as_slice() else {
        return Err(HsmError::NoKey(place.key.clone()));
    };
    let asked = [
        AttributeType::KeyType,
        AttributeType::ValueLen,
        AttributeType::Sensitive,
        AttributeType::Extractable,
    ];
    let said = session.get_attributes(*key, &asked)?;
    let needed = [
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(KEY_BYTES.into()),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
    ];
    if needed.iter().all(|needed| said.contains(needed)) {
        Ok(*key)
    } else {
        Err(HsmError::Soft(place.key.clone()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// One library at a time: to close it for one would close it for all.
static LOADED: Mutex<()> = Mutex::new(());

fn with_token<T>(
    place: &HsmKey,
    pin: &[u8],
    access: Access,
    work: impl FnOnce(&Session) -> Result<T, HsmError>,
) -> Result<T, HsmError> {
    let _turn = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let library = load(&place.module)?;
    let done = in_session(&library, place, pin, access, work);
    // Why ignored: what was asked is done or failed already, and the library goes with its handle.
    let _ = library.finalize();
    done
}

fn load(module: &Path) -> Result<Pkcs11, HsmError> {
    let wrong = |error: Error| HsmError::Module(module.to_owned(), error.to_string());
    let library = Pkcs11::new(module).map_err(wrong)?;
    let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    library.initialize(arguments).map_err(wrong)?;
    Ok(library)
}

fn in_session<T>(
    library: &Pkcs11,
    place: &HsmKey,
    pin: &[u8],
    access: Access,
    work: impl FnOnce(&Session) -> Result<T, HsmError>,
) -> Result<T, HsmError> {
    let mut found = None;
    for slot in library.get_slots_with_token()? {
        let about = library.get_token_info(slot)?;
        if about.label() == place.token && found.replace((slot, about)).is_some() {
            let two = format!("two tokens have the label {}", place.token);
            return Err(HsmError::Failed(two));
        }
    }
    let (slot, about) = found.ok_or_else(|| HsmError::NoToken(place.token.clone()))?;
    if about.user_pin_locked() {
        return Err(HsmError::Locked);
    }
    let session = match access {
        Access::Read => library.open_ro_session(slot)?,
        Access::Write => library.open_rw_session(slot)?,
    };
    let pin = std::str::from_utf8(pin).map_err(|_| HsmError::Pin)?;
    session.login(UserType::User, Some(&AuthPin::from(pin)))?;
    let done = work(&session);
    let _ = session.logout();
    session.close()?;
    done
}
