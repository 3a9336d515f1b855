// Plays a `sallyport dev` world as a hospital would, in Node: node play.mjs DIR [jose|openid-client|oauth4webapi]
// A token by private_key_jwt over mutual TLS (by that client: tokens.mjs), a read, and with npm `jose` the ticket,
// every record, every commitment.
import { createHash, createHmac, webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";
import * as tokens from "./tokens.mjs";

globalThis.crypto ??= webcrypto; // Node 18
const { compactDecrypt, compactVerify, decodeProtectedHeader, importJWK } = await import("jose");

const [dir, library = "jose"] = process.argv.slice(2);
const world = JSON.parse(readFileSync(`${dir}/world.json`));
const own = (file) => readFileSync(`${dir}/clients/hospital-a/${file}`);
const client = world.organisations.find((o) => o.name === "hospital-a").client_id;
const tls = { ca: readFileSync(`${dir}/ca.pem`), cert: own("cert.pem"), key: own("key.pem") };
const by = { jose: tokens.jose, "openid-client": tokens.openidClient, oauth4webapi: tokens.oauth4webapi }[library];
const hospital = await by({ world, client, tls, key: JSON.parse(own("sign.jwk")) });
const text = (bytes) => new TextDecoder().decode(bytes);
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest("base64url");

const published = JSON.parse((await hospital.read("/.well-known/jwks.json")).text).keys;
async function verified(jws, typ) {
  const { kid } = decodeProtectedHeader(jws);
  const key = published.find((jwk) => jwk.kid === kid);
  assert(key, `the key ${kid} is not published`);
  const { payload, protectedHeader } = await compactVerify(jws, await importJWK(key, "ES256"), { algorithms: ["ES256"] });
  assert.equal(protectedHeader.typ, typ);
  return JSON.parse(text(payload));
}

async function open(ask) {
  const answer = await hospital.read(ask.path, await hospital.token(ask.authorization_details));
  assert.equal(answer.status, 200, answer.text);
  const lines = answer.text.trim().split("\n").map((line) => JSON.parse(line));
  const [first, end, records] = [lines[0], lines.at(-1), lines.slice(1, -1)];
  assert.equal(end.end.records, records.length);

  const mine = await importJWK(JSON.parse(own("open.jwk")), "ECDH-ES+A256KW");
  const outer = await compactDecrypt(first.ticket, mine, {
    keyManagementAlgorithms: ["ECDH-ES+A256KW"], contentEncryptionAlgorithms: ["A256GCM"],
  });
  const ticket = await verified(text(outer.plaintext), "sallyport-ticket+jwt");
  assert.deepEqual([ticket.iss, ticket.aud], [world.issuer, client]);
  assert(ticket.exp > Date.now() / 1000);
  assert.equal(ticket.leaf, sha256(Buffer.of(0), first.receipt.leaf), "the ticket names another entry of the log");
  assert.equal(ticket.keys.length, records.length);

  for (const { record, signature } of records) {
    const { kid } = decodeProtectedHeader(record);
    const dek = Buffer.from(ticket.keys.find((key) => key.kid === kid).k, "base64url");
    const commit = (label, what) => createHmac("sha256", dek).update(`${label}\0${what}`).digest("base64url");
    const said = await verified(signature, "sallyport-deposit");
    assert.equal(said.kid, kid);
    assert.equal(said.h, sha256(record), "deposit signature");
    assert.equal(said.kc, commit("sallyport/kc/v1", kid), "the key is not the one it was sealed under");
    assert.equal(said.pc, commit("sallyport/patient/v1", ask.authorization_details.patient), "another patient's record");
    const opened = await compactDecrypt(record, dek, { keyManagementAlgorithms: ["dir"], contentEncryptionAlgorithms: ["A256GCM"] });
    JSON.parse(text(opened.plaintext));
  }
  console.log(`ok   npm ${library}: ${ask.name}: ${records.length} opened`);
}

for (const ask of world.asks)
  if (ask.client === "hospital-a" && ask.expect === "permit" && ask.path) await open(ask);

// A refusal reaches the caller as the client's own error, in the words of RFC 6749 §5.2.
const refused = world.asks.find((ask) => ask.client === "hospital-a" && ask.expect === "refuse");
await assert.rejects(hospital.token(refused.authorization_details), { error: "access_denied" });
console.log(`ok   npm ${library}: ${refused.name}: refused as access_denied`);
await hospital.close();
