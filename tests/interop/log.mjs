// Holds a receipt of a `sallyport dev` world with Sigstore's own verifier: node log.mjs DIR
// What npm @sigstore/verify asks of an entry of Rekor is asked of ours: a checkpoint this log signed, a proof that
// leads from the leaf to it. The deep import is the function its bundle verifier calls; it has no shorter name.
import { createHash, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";
import { verifyTLogInclusion } from "@sigstore/verify/dist/tlog/index.js";
import { jose } from "./tokens.mjs";

const [dir] = process.argv.slice(2);
const world = JSON.parse(readFileSync(`${dir}/world.json`));
const own = (file) => readFileSync(`${dir}/clients/hospital-a/${file}`);
const client = world.organisations.find((o) => o.name === "hospital-a").client_id;
const tls = { ca: readFileSync(`${dir}/ca.pem`), cert: own("cert.pem"), key: own("key.pem") };
const hospital = await jose({ world, client, tls, key: JSON.parse(own("sign.jwk")) });

// NAME+HASH+BASE64 (C2SP signed-note): the log's id is SHA-256(NAME, newline, type byte and key), cut to 4 bytes in a note.
function log(vkey) {
  const [name, , ...rest] = vkey.trim().split("+");
  const raw = Buffer.from(rest.join("+"), "base64");
  const logID = createHash("sha256").update(`${name}\n`).update(raw).digest();
  const x = raw.subarray(1).toString("base64url");
  return { logID, baseURL: name, publicKey: createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" }) };
}

function entry(receipt, { logID }) {
  const cut = receipt.proof.indexOf("\n\n");
  const [first, index, ...hashes] = receipt.proof.slice(0, cut).split("\n").filter((line) => !line.startsWith("extra "));
  assert.equal(first, "c2sp.org/tlog-proof@v1");
  const envelope = receipt.proof.slice(cut + 2);
  return {
    logId: { keyId: logID },
    canonicalizedBody: Buffer.from(receipt.leaf),
    inclusionProof: {
      logIndex: index.slice("index ".length), checkpoint: { envelope },
      hashes: hashes.map((line) => Buffer.from(line, "base64")),
    },
  };
}

const ours = log(readFileSync(`${dir}/log.vkey`, "utf8"));
let held = 0;
for (const ask of world.asks.filter((ask) => ask.client === "hospital-a" && ask.expect === "permit" && ask.path)) {
  const answer = await hospital.read(ask.path, await hospital.token(ask.authorization_details));
  const { receipt } = JSON.parse(answer.text.slice(0, answer.text.indexOf("\n")));
  verifyTLogInclusion(entry(receipt, ours), [ours]);
  held += 1;

  const proof = (from, to) => ({ ...receipt, proof: receipt.proof.replace(from, to) });
  const note = receipt.proof.slice(receipt.proof.indexOf("\n\n") + 2).split("\n");
  const forgeries = {
    "another leaf": { ...receipt, leaf: receipt.leaf.replace('"v":1', '"v":2') },
    "another place": proof(/index (\d+)/, (_, index) => `index ${BigInt(index) ^ 1n}`),
    "a hash less": proof(/index \d+\n[^\n]+\n/, (text) => `${text.split("\n")[0]}\n`),
    "a larger tree": proof(`${note[0]}\n${note[1]}\n`, `${note[0]}\n${BigInt(note[1]) + 1n}\n`),
  };
  for (const [what, forged] of Object.entries(forgeries))
    assert.throws(() => verifyTLogInclusion(entry(forged, ours), [ours]), { code: "TLOG_INCLUSION_PROOF_ERROR" }, what);
  const other = log(`${ours.baseURL}+00000000+${Buffer.concat([Buffer.of(1), createHash("sha256").digest()]).toString("base64")}`);
  assert.throws(() => verifyTLogInclusion(entry(receipt, other), [other]), { code: "TLOG_INCLUSION_PROOF_ERROR" }, "another log");
}
assert(held > 0);
console.log(`ok   npm @sigstore/verify: ${held} receipts are under roots the log signed; leaf, place, proof, size and key are not exchangeable`);
await hospital.close();
