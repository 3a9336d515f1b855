#!/usr/bin/env python3
"""Makes envelopes.json anew, with jwcrypto and cryptography and nothing of ours: python3 make.py >envelopes.json

Run it for a new format only: what was published stays as it is. No key is a secret: each
is the hash of its name.
"""
import base64, hashlib, hmac, json, sys

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwcrypto import jwe, jwk, jws

ISSUER, CLIENT, OTHER, NOW = "https://gateway.example", "RJ1", "RJ2", 1_790_000_000
PATIENT, STRANGER = "9990000018", "9990000026"
CTY = "application/fhir+json; fhirVersion=4.0"
ORIGIN = "log.gateway.example/2026"

b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()
sha = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
compact = lambda value: json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
WORDS = "sallyport vectors, not a secret: "
fixed = lambda name: sha(WORDS.encode(), name.encode())


def key(name, **more):
    """The P-256 key whose private number is the hash of its name; `kid` is its RFC 7638 thumbprint."""
    private = ec.derive_private_key(int.from_bytes(fixed(name), "big"), ec.SECP256R1())
    made = jwk.JWK.from_pyca(private)
    made.update(kid=made.thumbprint(), **more)
    return made


def sign(by, typ, payload):
    out = jws.JWS(payload)
    out.add_signature(by, "ES256", compact({"alg": "ES256", "kid": by["kid"], "typ": typ}))
    return out.serialize(compact=True)


# --- records and deposits ----------------------------------------------------------------------------------------

def record_header(kid):
    return b64(compact({"alg": "dir", "cty": CTY, "enc": "A256GCM", "kid": kid, "typ": "sallyport-record"}).encode())


def record(dek, kid, plaintext):
    head, nonce = record_header(kid), sha(dek, kid.encode(), plaintext)[:12]
    sealed = AESGCM(dek).encrypt(nonce, plaintext, head.encode())
    return f"{head}..{b64(nonce)}.{b64(sealed[:-16])}.{b64(sealed[-16:])}"


def deposit(by, text, dek, kid, patient, practice="A81001"):
    commit = lambda label, what: b64(hmac.new(dek, label + b"\0" + what.encode(), "sha256").digest())
    return sign(by, "sallyport-deposit", compact({
        "by": "gateway", "h": b64(sha(text.encode())), "iat": NOW - 86_400, "iss": practice, "kid": kid,
        "kc": commit(b"sallyport/kc/v1", kid), "pc": commit(b"sallyport/patient/v1", patient)}))


def observation(name, patient, said):
    return compact({"resourceType": "Observation", "id": name, "status": "final", "code": {"text": said},
                    "subject": {"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": patient}}}).encode()


# --- tickets -----------------------------------------------------------------------------------------------------

def claims(leaf, keys, **changes):
    entries = [{"kty": "oct", "kid": kid, "k": b64(dek), "res": res} for kid, dek, res in keys]
    return {"iss": ISSUER, "aud": CLIENT, "iat": NOW, "exp": NOW + 300, "jti": "vector-1", "token": "vector-token",
            "purpose": "TREAT", "leaf": b64(sha(b"\0", leaf.encode())), "keys": entries} | changes


def seal(to, signed, aud, jti):
    head = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "typ": "sallyport-ticket", "cty": "JWT", "kid": to["kid"],
            "apu": b64(ISSUER.encode()), "apv": b64(f"{aud}|{jti}".encode())}
    out = jwe.JWE(signed, compact(head))
    out.add_recipient(to)
    return out.serialize(compact=True)


def ticket(to, by, said):
    return seal(to, sign(by, "sallyport-ticket+jwt", compact(said)), said["aud"], said["jti"])


# --- the log -----------------------------------------------------------------------------------------------------

def commitment(name, value):
    salt = fixed(f"salt of {name}")
    return {"salt": b64(salt), "value": value}, b64(sha(f"sallyport/audit/v1/{name}".encode(), b"\0", salt, compact(value).encode()))


def log(vkey_of):
    """Three leaves under one signed checkpoint, and the receipt of each."""
    values = {"actor": {"client": CLIENT, "practitioner": "dr-vector"}, "subject": {"nhs": PATIENT},
              "object": {"records": ["Observation/a"]}, "context": {"purpose": "TREAT"}}
    openings, commitments = {}, {}
    for name, value in values.items():
        openings[name], commitments[name] = commitment(name, value)
    leaves = [compact({"v": 1, "i": 0, "ts": NOW * 1000 - 2, "ev": "log.genesis", "origin": ORIGIN})]
    leaves += [compact({"v": 1, "i": i, "ts": NOW * 1000 + i, "ev": "record.release", "out": "permit", "c": commitments}) for i in (1, 2)]
    hashes = [sha(b"\0", leaf.encode()) for leaf in leaves]
    pair = sha(b"\1", hashes[0], hashes[1])
    root = sha(b"\1", pair, hashes[2])
    paths = [[hashes[1], hashes[2]], [hashes[0], hashes[2]], [pair]]
    b = lambda data: base64.b64encode(data).decode()

    def receipt(i, by=vkey_of, size=3):
        body = f"{ORIGIN}\n{size}\n{b(root)}\n"
        signature = by.sign(body.encode())
        note = f"{body}\n\u2014 {ORIGIN} {b(note_id(by) + signature)}\n"
        path = "".join(f"{b(step)}\n" for step in paths[i])
        return {"leaf": leaves[i], "proof": f"c2sp.org/tlog-proof@v1\nindex {i}\n{path}\n{note}", "openings": openings if i else {}}

    return leaves, receipt


def raw(by):
    return b"\1" + by.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def note_id(by):
    return sha(ORIGIN.encode(), b"\n", raw(by))[:4]


# --- one ciphertext, two keys -------------------------------------------------------------------------------------

def multiply(x, y):
    """In GF(2^128) as GCM has it (NIST SP 800-38D 6.3)."""
    z = 0
    for at in range(128):
        if x >> (127 - at) & 1:
            z ^= y
        y = y >> 1 ^ (0xe1 << 120 if y & 1 else 0)
    return z


def tag(aes, nonce, aad, ciphertext):
    block = lambda data: int.from_bytes(Cipher(algorithms.AES(aes), modes.ECB()).encryptor().update(data), "big")
    h, total = block(bytes(16)), 0
    pad = lambda data: data + bytes(-len(data) % 16)
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    data = pad(aad) + pad(ciphertext) + lengths
    for at in range(0, len(data), 16):
        total = multiply(total ^ int.from_bytes(data[at:at + 16], "big"), h)
    return total ^ block(nonce + b"\0\0\0\1")


def two_faces(first, second, kid, patient):
    """A text that opens under both keys: under the first to good JSON, under the second to something else.

    Tags are linear in the ciphertext, so that they agree is 128 linear equations. The unknowns are the low four
    bits of 48 letters inside a JSON text ('`' to 'o'), so that the first face stays valid whatever comes out.
    """
    head, nonce = record_header(kid), fixed("two faces")[:12]
    plain = observation("two-faces", patient, "X" * 48)
    at = plain.index(b"X" * 48)
    stream = lambda aes: Cipher(algorithms.AES(aes), modes.CTR(nonce + b"\0\0\0\2")).encryptor().update(bytes(len(plain)))
    keystream = stream(first)
    sealed = lambda letters: bytes(a ^ b for a, b in zip(plain[:at] + bytes(letters) + plain[at + 48:], keystream))
    differ = lambda letters: tag(first, nonce, head.encode(), sealed(letters)) ^ tag(second, nonce, head.encode(), sealed(letters))
    base = [0x60] * 48
    target, rows = differ(base), {}
    for unknown in range(192):
        letters = base.copy()
        letters[unknown // 4] ^= 1 << unknown % 4
        column, used = differ(letters) ^ target, 1 << unknown
        while column and column.bit_length() in rows:
            other, theirs = rows[column.bit_length()]
            column, used = column ^ other, used ^ theirs
        if column:
            rows[column.bit_length()] = column, used
    chosen = 0
    while target:
        column, used = rows[target.bit_length()]
        target, chosen = target ^ column, chosen ^ used
    letters = [0x60 | (chosen >> 4 * i & 15) for i in range(48)]
    text, mac = sealed(letters), tag(first, nonce, head.encode(), sealed(letters)).to_bytes(16, "big")
    for aes in (first, second):
        AESGCM(aes).decrypt(nonce, text + mac, head.encode())
    return f"{head}..{b64(nonce)}.{b64(text)}.{b64(mac)}"


# --- the cases ----------------------------------------------------------------------------------------------------

def main():
    gateway, outsider, fellow = key("gateway", use="sig"), key("outsider", use="sig"), key("fellow", use="sig")
    mine, theirs = key("mine", use="enc", alg="ECDH-ES+A256KW"), key("theirs", use="enc", alg="ECDH-ES+A256KW")
    noter, other_log = Ed25519PrivateKey.from_private_bytes(fixed("log")), Ed25519PrivateKey.from_private_bytes(fixed("another log"))
    leaves, receipt = log(noter)
    dek, dek_b, dek_old, dek_stranger = fixed("dek"), fixed("dek b"), fixed("dek of version 2"), fixed("dek of a stranger")
    kid, old, strange = f"{fixed('a').hex()[:32]}.3", f"{fixed('a').hex()[:32]}.2", f"{fixed('b').hex()[:32]}.1"
    plain = observation("a", PATIENT, "Body weight")
    text = record(dek, kid, plain)
    line = {"record": text, "signature": deposit(gateway, text, dek, kid, PATIENT)}
    keys = [(kid, dek, "Observation/a")]
    good = ticket(mine, gateway, claims(leaves[1], keys))
    cases = []

    def case(name, why, because, lines=(line,), ticket=good, receipt=receipt(1), end=None):
        answer = {"ticket": ticket, "receipt": receipt, "notice": "Items may have been withheld."}
        cases.append({"name": name, "why": why, "expect": "refuse" if because else "accept", **({"because": because} if because else {}),
                      "answer": [answer, *lines, {"end": {"records": len(lines) if end is None else end}}]})

    case("honest", "One record, released to RJ1 for TREAT.", None)
    cases[-1]["opens"] = [{"res": "Observation/a", "cty": CTY, "plaintext": plain.decode()}]
    case("practice-signed", "The practice's own connector signed the deposit.", None, lines=[{**line, "signature": sign(gateway, "sallyport-deposit", compact(
        json.loads(base64.urlsafe_b64decode(line["signature"].split(".")[1] + "==")) | {"by": "practice"}))}])
    cases[-1]["opens"] = cases[0]["opens"]

    # An outsider knows every public key and holds none.
    made = fixed("the outsider's dek")
    forged = record(made, kid, observation("a", PATIENT, "Made up"))
    case("outsider-ticket", "Anybody can encrypt to a public key: an outsider seals a ticket of his own, signed by himself.", "ticket-signature",
         ticket=ticket(mine, outsider, claims(leaves[1], [(kid, made, "Observation/a")])),
         lines=[{"record": forged, "signature": deposit(outsider, forged, made, kid, PATIENT)}])
    named = jwk.JWK(**(json.loads(outsider.export()) | {"kid": gateway["kid"]}))
    case("outsider-under-our-name", "The same, his signature under the gateway's kid.", "ticket-signature",
         ticket=ticket(mine, named, claims(leaves[1], [(kid, made, "Observation/a")])),
         lines=[{"record": forged, "signature": deposit(named, forged, made, kid, PATIENT)}])
    unsigned = b64(compact({"alg": "none", "typ": "sallyport-ticket+jwt"}).encode()) + "." + b64(compact(claims(leaves[1], keys)).encode()) + "."
    case("outsider-alg-none", "A ticket that nobody signed.", "ticket-signature", ticket=seal(mine, unsigned, CLIENT, "vector-1"))

    # A fellow recipient got the same record's key in a ticket of his own.
    changed = record(dek, kid, observation("a", PATIENT, "Changed"))
    case("fellow-new-content", "Another hospital that holds the data key encrypts new content under it and keeps the deposit signature.",
         "record-text", lines=[{**line, "record": changed}])
    case("fellow-signs", "The same, and he signs the deposit himself.", "deposit-signature",
         lines=[{"record": changed, "signature": deposit(fellow, changed, dek, kid, PATIENT)}])
    inner = sign(gateway, "sallyport-ticket+jwt", compact(claims(leaves[1], keys, aud=OTHER)))
    case("fellow-passes-on", "Another hospital opens its own ticket and seals the signed text inside to us.", "ticket-claims",
         ticket=seal(mine, inner, OTHER, "vector-1"))
    case("fellow-passes-on-renamed", "The same, with our name in apv.", "ticket-claims", ticket=seal(mine, inner, CLIENT, "vector-1"))
    case("fellow-ticket", "Another hospital's ticket, as it is.", "ticket-sealed", ticket=ticket(theirs, gateway, claims(leaves[1], keys, aud=OTHER)))

    # One ciphertext that opens under two keys, so that two hospitals would read two records under one signature.
    faces = two_faces(dek, dek_b, kid, PATIENT)
    signed = {"record": faces, "signature": deposit(gateway, faces, dek, kid, PATIENT)}
    case("two-faces-first", "A text that opens under two keys, with the key it was deposited with.", None, lines=[signed])
    cases[-1]["opens"] = [{"res": "Observation/a", "cty": CTY, "plaintext": AESGCM(dek).decrypt(
        *(base64.urlsafe_b64decode(part + "==") for part in [faces.split(".")[2]]),
        b"".join(base64.urlsafe_b64decode(part + "==") for part in faces.split(".")[3:]), faces.split(".")[0].encode()).decode()}]
    case("two-faces-second", "The same text with the other key: GCM opens it, the commitment does not hold.", "key-commitment",
         ticket=ticket(mine, gateway, claims(leaves[1], [(kid, dek_b, "Observation/a")])), lines=[signed])
    cases[-1]["keys_that_open"] = [b64(dek), b64(dek_b)]

    # A record that is true, of another patient.
    foreign = record(dek_stranger, strange, observation("b", STRANGER, "Body weight"))
    case("other-patient", "A true record of another patient, true signature and key, in this patient's answer.", "patient-commitment",
         ticket=ticket(mine, gateway, claims(leaves[1], [(strange, dek_stranger, "Observation/b")])),
         lines=[{"record": foreign, "signature": deposit(gateway, foreign, dek_stranger, strange, STRANGER)}])
    before = record(dek_old, old, observation("a", PATIENT, "Body weight, before it was corrected"))
    case("older-version", "The version before, in place of the one the ticket names.", "record-unnamed",
         lines=[{"record": before, "signature": deposit(gateway, before, dek_old, old, PATIENT)}])
    case("other-signature", "Another record's deposit signature beside this record.", "record-text",
         lines=[{**line, "signature": deposit(gateway, before, dek_old, old, PATIENT)}])

    # Cut, stale, moved.
    two = claims(leaves[1], [*keys, (strange, dek_stranger, "Observation/b")])
    case("cut-short", "The ticket names two records, one came.", "count", ticket=ticket(mine, gateway, two))
    case("cut-after-ticket", "The last line counts one record more than came.", "count", end=2)
    case("stale", "A ticket of an hour ago.", "ticket-claims", ticket=ticket(mine, gateway, claims(leaves[1], keys, iat=NOW - 3600, exp=NOW - 3300)))
    case("other-gateway", "A ticket of another issuer that this gateway's key signed.", "ticket-claims",
         ticket=ticket(mine, gateway, claims(leaves[1], keys, iss="https://other.example")))
    case("other-entry", "The receipt is of another release than the ticket names.", "ticket-leaf", receipt=receipt(2))

    # Receipts.
    whole = receipt(1)
    case("receipt-altered-leaf", "A leaf with one digit changed.", "receipt-inclusion", receipt={**whole, "leaf": whole["leaf"].replace(str(NOW * 1000 + 1), str(NOW * 1000 + 2))})
    case("receipt-other-place", "A true leaf at another place.", "receipt-inclusion", receipt={**whole, "proof": whole["proof"].replace("index 1\n", "index 0\n")})
    case("receipt-other-log", "A checkpoint that another key signed under this log's name.", "receipt-checkpoint", receipt=receipt(1, other_log))
    altered = json.loads(json.dumps(whole))
    altered["openings"]["context"]["value"]["purpose"] = "HRESCH"
    case("receipt-other-purpose", "An opening that says another purpose than was committed to.", "receipt-opening", receipt=altered)

    vkey = f"{ORIGIN}+{note_id(noter).hex()}+{base64.b64encode(raw(noter)).decode()}"
    json.dump({
        "about": "Answers of a gateway to one hospital, honest and forged, and what a receiver must say to each. See README.md. Test keys only.",
        "receiver": {"iss": ISSUER, "client_id": CLIENT, "patient": PATIENT, "now": NOW + 10, "vkey": vkey,
                     "open_key": json.loads(mine.export_public()), "open_key_d": f"SHA-256 of: {WORDS}mine", "verify_keys": [json.loads(gateway.export_public())]},
        "cases": cases}, sys.stdout, indent=1, ensure_ascii=False)
    print()


main()
