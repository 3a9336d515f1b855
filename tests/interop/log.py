#!/usr/bin/env python3
"""Checks the published log of a `sallyport dev` world with nothing of ours: python3 log.py DIR

Every entry is hashed again (RFC 6962), the root held against the signed checkpoint (C2SP signed-note), a receipt
proven and found again in the log; then PyPI aics-tlog does the same, and both must see a changed byte.
"""
import base64, hashlib, json, pathlib, shutil, sys, tempfile, time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import play

hash_of = lambda *parts: hashlib.sha256(b"".join(parts)).digest()


def checkpoint(text, vkey):
    """-> (size, root) of a note that this key signed."""
    name, ident, key = vkey.split("+", 2)
    raw = base64.b64decode(key)
    assert raw[0] == 1 and hash_of(name.encode() + b"\n" + raw)[:4].hex() == ident, "not an Ed25519 note key"
    body, signatures = text.split("\n\n", 1)
    for line in signatures.splitlines():
        signature = base64.b64decode(line.rsplit(" ", 1)[1])
        if line.startswith(f"\u2014 {name} ") and signature[:4].hex() == ident:
            Ed25519PublicKey.from_public_bytes(raw[1:]).verify(signature[4:], (body + "\n").encode())
            origin, size, root = body.splitlines()
            assert origin == name
            return int(size), base64.b64decode(root)
    raise ValueError("the log's key did not sign this")


def entries(log, size):
    """The published leaves, from tile/entries: bundles of 256, each leaf after its length in two bytes."""
    for bundle in range((size + 255) // 256):
        width = min(256, size - 256 * bundle)
        digits = f"{bundle:03}" if bundle < 1000 else f"x{bundle // 1000:03}/{bundle % 1000:03}"
        data = (log / "tile/entries" / (digits + ("" if width == 256 else f".p/{width}"))).read_bytes()
        while data:
            length = int.from_bytes(data[:2], "big")
            yield data[2:2 + length]
            data = data[2 + length:]


def root_of(hashes):
    """RFC 6962 2.1"""
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return hash_of(b"\1", root_of(hashes[:split]), root_of(hashes[split:]))


def proven(receipt, vkey):
    """-> index of a receipt whose proof leads from its leaf to a signed root (RFC 9162 2.1.3.2)."""
    proof, note = receipt["proof"].split("\n\n", 1)
    first, index, *path = [line for line in proof.splitlines() if not line.startswith("extra ")]
    assert first == "c2sp.org/tlog-proof@v1"
    size, root = checkpoint(note, vkey)
    index = int(index.removeprefix("index "))
    at, last, node = index, size - 1, hash_of(b"\0", receipt["leaf"].encode())
    for step in map(base64.b64decode, path):
        assert last, "the proof is too long"
        if at & 1 or at == last:
            node = hash_of(b"\1", step, node)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = hash_of(b"\1", node, step)
        at, last = at >> 1, last >> 1
    assert last == 0 and node == root, "the proof does not lead to the signed root"
    return index


def ours(log, vkey):
    size, root = checkpoint((log / "checkpoint").read_text(), vkey)
    leaves = list(entries(log, size))
    assert len(leaves) == size and root_of([hash_of(b"\0", leaf) for leaf in leaves]) == root, "the log is not what was signed"
    assert all(json.loads(leaf)["i"] == i for i, leaf in enumerate(leaves)), "an entry is out of its place"
    return size, root, leaves


def aics(log, vkey):
    import aics_tlog
    note = aics_tlog.parse_note((log / "checkpoint").read_text())
    result = aics_tlog.verify_checkpoint(note, aics_tlog.parse_vkey(vkey))
    assert result.ok, result.error
    aics_tlog.audit_tiles(aics_tlog.FileSystemTileReader(log), result.size, result.root)
    return result.size, result.root


def sees_a_changed_byte(check, log, vkey):
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "log"
        shutil.copytree(log, copy)
        size = checkpoint((copy / "checkpoint").read_text(), vkey)[0]
        bundle = copy / "tile/entries" / ("000" if size >= 256 else f"000.p/{size}")
        data = bytearray(bundle.read_bytes())
        data[len(data) // 2] ^= 1
        bundle.unlink()
        bundle.write_bytes(data)
        try:
            check(copy, vkey)
        except Exception:
            return
        raise SystemExit("FAIL a changed entry was not seen")


def main(folder):
    folder = pathlib.Path(folder)
    log, vkey = folder / "log", (folder / "log.vkey").read_text().strip()
    hospital = play.Hospital(play.Jwcrypto(), folder, "hospital-a")
    ask = next(ask for ask in hospital.world["asks"] if ask["name"] == "permitted")
    receipt = hospital.read(ask)[0]["receipt"]
    index = proven(receipt, vkey)
    print(f"ok   receipt: entry {index} is under a signed root")
    for _ in range(100):  # the log is published a moment after the receipt
        if checkpoint((log / "checkpoint").read_text(), vkey)[0] > index:
            break
        time.sleep(0.1)
    size, root, leaves = ours(log, vkey)
    assert leaves[index].decode() == receipt["leaf"], "the published entry is another than the receipt's"
    print(f"ok   log: {size} entries hash to the signed root, the receipt's among them")
    sees_a_changed_byte(ours, log, vkey)
    print("ok   log: a changed byte is seen")
    try:
        import aics_tlog  # noqa: F401
    except ImportError:
        print("SKIPPED: aics-tlog is not installed")
        return 77
    size, _ = aics(log, vkey)
    sees_a_changed_byte(aics, log, vkey)
    print(f"ok   aics-tlog: {size} entries and every tile hash to the signed root; a changed byte is seen")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
