//! The world's certificates and its parties' keys. The CA's key is not kept: nobody joins this world later.

use std::net::SocketAddr;
use std::path::Path;

use keys::{ClientKey, OpenKey};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use super::{MEMBERS, WorldError, write, write_secret};

fn named(name: &str) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    out.push(DnType::CommonName, name);
    out
}

/// Writes `ca.pem`, the server's certificate, a folder for each party, and the root key's passphrase.
pub(super) fn make(dir: &Path, address: SocketAddr) -> Result<(), WorldError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Sallyport dev CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let ca = params.self_signed(&key)?;
    write(&dir.join("ca.pem"), ca.pem().as_bytes())?;
    let issuer = Issuer::new(params, key);
    let names = vec!["localhost".to_owned(), address.ip().to_string()];
    let server = leaf(
        names,
        "sallyport dev",
        ExtendedKeyUsagePurpose::ServerAuth,
        &issuer,
    )?;
    folder(&dir.join("server"), &server)?;
    for member in MEMBERS {
        let own = dir.join("clients").join(member.name);
        folder(
            &own,
            &leaf(
                Vec::new(),
                member.name,
                ExtendedKeyUsagePurpose::ClientAuth,
                &issuer,
            )?,
        )?;
        write_secret(
            &own.join("sign.jwk"),
            ClientKey::generate().to_jwk().as_bytes(),
        )?;
        if member.opens() {
            write_secret(
                &own.join("open.jwk"),
                OpenKey::generate().to_jwk().as_bytes(),
            )?;
        }
    }
    write_secret(&dir.join("passphrase"), keys::random_id().as_bytes())
}

fn leaf(
    names: Vec<String>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(String, String), WorldError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = named(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn folder(path: &Path, (certificate, key): &(String, String)) -> Result<(), WorldError> {
    std::fs::create_dir_all(path).map_err(|error| WorldError::File {
        path: path.to_owned(),
        error,
    })?;
    write(&path.join("cert.pem"), certificate.as_bytes())?;
    write_secret(&path.join("key.pem"), key.as_bytes())
}
