//! A gateway's signing key has no way out but wrapped in the keyring.

fn main() {
    let _ = keys::Signer::generate().to_jwk();
}
