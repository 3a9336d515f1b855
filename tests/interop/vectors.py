#!/usr/bin/env python3
"""A receiver in one page, with PyPI jwcrypto and nothing of ours, held against ../vectors: python3 vectors.py

Every honest answer must open to what it says, every forgery be refused for the very reason it says.
"""
import base64, hashlib, hmac, json, pathlib, sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from jwcrypto import jwe, jwk, jws
from jwcrypto.common import JWException

import log

VECTORS = pathlib.Path(__file__).parent.parent / "vectors"
sha = lambda *parts: hashlib.sha256(b"".join(parts)).digest()


class Refused(Exception):
    pass


def must(holds, because):
    if not holds:
        raise Refused(because)


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def head(text):
    return json.loads(unb64(text.split(".")[0]))


def verified(text, keys, typ, because):
    """The payload of a JWS by one of these keys. The algorithm is ours, never the header's."""
    try:
        said = head(text)
        out = jws.JWS()
        out.allowed_algs = ["ES256"]
        out.deserialize(text, key=keys[said["kid"]])
        must(said.keys() == {"alg", "kid", "typ"} and said["typ"] == typ, because)
        return json.loads(out.payload)
    except (JWException, KeyError, ValueError) as error:
        raise Refused(because) from error


def opened(text, key, allowed, because):
    try:
        out = jwe.JWE(algs=allowed)
        out.deserialize(text, key=key)
        return out.payload
    except (JWException, ValueError) as error:
        raise Refused(because) from error


def receipt_holds(receipt, vkey):
    """-> the leaf's hash"""
    try:
        log.checkpoint(receipt["proof"].split("\n\n", 1)[1], vkey)
    except (ValueError, AssertionError, InvalidSignature) as error:
        raise Refused("receipt-checkpoint") from error
    try:
        index = log.proven(receipt, vkey)
    except AssertionError as error:
        raise Refused("receipt-inclusion") from error
    leaf = json.loads(receipt["leaf"])
    must(leaf["v"] == 1 and leaf["i"] == index, "receipt-inclusion")
    for name, opening in receipt["openings"].items():
        value = json.dumps(opening["value"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        said = sha(f"sallyport/audit/v1/{name}".encode(), b"\0", unb64(opening["salt"]), value)
        must(unb64(leaf["c"][name]) == said, "receipt-opening")
    return sha(b"\0", receipt["leaf"].encode())


def ticket_holds(text, me, keys):
    d = base64.urlsafe_b64encode(sha(me["open_key_d"].removeprefix("SHA-256 of: ").encode())).rstrip(b"=").decode()
    signed = opened(text, jwk.JWK(**me["open_key"], d=d), ["ECDH-ES+A256KW", "A256GCM"], "ticket-sealed").decode()
    ticket = verified(signed, keys, "sallyport-ticket+jwt", "ticket-signature")
    sealed = head(text)
    must(unb64(sealed["apu"]).decode() == ticket["iss"] == me["iss"], "ticket-claims")
    must(unb64(sealed["apv"]).decode() == f"{ticket['aud']}|{ticket['jti']}" and ticket["aud"] == me["client_id"], "ticket-claims")
    must(ticket["iat"] <= me["now"] + 30 and me["now"] < ticket["exp"] + 30, "ticket-claims")
    return ticket


def record_holds(line, deks, me, keys):
    text, kid = line["record"], head(line["record"])["kid"]
    must(kid in deks, "record-unnamed")
    key = deks.pop(kid)
    dek = unb64(key["k"])
    commit = lambda label, what: hmac.new(dek, label + b"\0" + what.encode(), "sha256").digest()
    said = verified(line["signature"], keys, "sallyport-deposit", "deposit-signature")
    must(said["kid"] == kid and unb64(said["h"]) == sha(text.encode()), "record-text")
    must(hmac.compare_digest(unb64(said["kc"]), commit(b"sallyport/kc/v1", kid)), "key-commitment")
    must(hmac.compare_digest(unb64(said["pc"]), commit(b"sallyport/patient/v1", me["patient"])), "patient-commitment")
    plaintext = opened(text, jwk.JWK(kty="oct", k=key["k"]), ["dir", "A256GCM"], "record-sealed")
    return {"res": key["res"], "cty": head(text)["cty"], "plaintext": plaintext.decode()}


def receive(answer, me):
    """-> the records of an answer, all of them or none."""
    keys = {key["kid"]: jwk.JWK(**key) for key in me["verify_keys"]}
    first, *lines, end = answer
    must(end["end"]["records"] == len(lines), "count")
    leaf = receipt_holds(first["receipt"], me["vkey"])
    ticket = ticket_holds(first["ticket"], me, keys)
    must(unb64(ticket["leaf"]) == leaf, "ticket-leaf")
    deks = {key["kid"]: key for key in ticket["keys"]}
    must(len(deks) == len(ticket["keys"]) == len(lines), "count")
    return [record_holds(line, deks, me, keys) for line in lines]


def main():
    vectors = json.loads((VECTORS / "envelopes.json").read_text())
    for case in vectors["cases"]:
        try:
            got, because = receive(case["answer"], vectors["receiver"]), None
        except Refused as refused:
            got, because = None, str(refused)
        if case["expect"] == "accept":
            assert got == case["opens"], f"{case['name']}: {because or got}"
        else:
            assert because == case["because"], f"{case['name']}: {because or 'ACCEPTED'}, not {case['because']}"
        print(f"ok   {case['name']}: {because or 'opens'}")
        for k in case.get("keys_that_open", []):  # two faces: both keys really do open the one text
            header, _, nonce, text, tag = case["answer"][1]["record"].split(".")
            AESGCM(unb64(k)).decrypt(unb64(nonce), unb64(text) + unb64(tag), header.encode())
    ledger = json.loads((VECTORS / "ledger.json").read_text())
    leaf = receipt_holds(ledger["receipt"], ledger["vkey"])
    assert leaf.hex() == ledger["leaf_hash"] and log.checkpoint(ledger["receipt"]["proof"].split("\n\n", 1)[1], ledger["vkey"])[1].hex() == ledger["root"]
    print("ok   ledger.json: its leaf, openings and checkpoint hold")


if __name__ == "__main__":
    sys.exit(main())
