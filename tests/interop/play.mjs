// Plays a `sallyport dev` world as a hospital would, in Node with npm `jose`: node play.mjs DIR
// A token by private_key_jwt over mutual TLS, a read, the ticket, every record, every commitment.
import { createHash, createHmac, randomUUID, webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import { Agent, request } from "node:https";
import assert from "node:assert/strict";

globalThis.crypto ??= webcrypto; // Node 18
const { SignJWT, compactDecrypt, compactVerify, decodeProtectedHeader, importJWK } = await import("jose");

const dir = process.argv[2];
const world = JSON.parse(readFileSync(`${dir}/world.json`));
const own = (file) => readFileSync(`${dir}/clients/hospital-a/${file}`);
const client = world.organisations.find((o) => o.name === "hospital-a").client_id;
const agent = new Agent({ ca: readFileSync(`${dir}/ca.pem`), cert: own("cert.pem"), key: own("key.pem"), keepAlive: true });
const text = (bytes) => new TextDecoder().decode(bytes);
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest("base64url");

const http = (method, path, headers = {}, body = undefined) =>
  new Promise((done, fail) => {
    const call = request(world.url + path, { method, agent, headers }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk)).on("end", () => done({ status: answer.statusCode, text: Buffer.concat(chunks).toString() }));
    });
    call.on("error", fail).end(body);
  });

async function token(details) {
  const key = JSON.parse(own("sign.jwk"));
  const assertion = await new SignJWT({ jti: randomUUID() })
    .setProtectedHeader({ alg: "ES256", kid: key.kid })
    .setIssuer(client).setSubject(client).setAudience(world.issuer).setIssuedAt().setExpirationTime("1 minute")
    .sign(await importJWK(key, "ES256"));
  const form = new URLSearchParams({
    grant_type: "client_credentials", client_id: client, client_assertion: assertion,
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    authorization_details: JSON.stringify([details]),
  });
  const answer = await http("POST", "/oauth/token", { "content-type": "application/x-www-form-urlencoded" }, form.toString());
  assert.equal(answer.status, 200, answer.text);
  return JSON.parse(answer.text).access_token;
}

const published = JSON.parse((await http("GET", "/.well-known/jwks.json")).text).keys;
async function verified(jws, typ) {
  const { kid } = decodeProtectedHeader(jws);
  const key = published.find((jwk) => jwk.kid === kid);
  assert(key, `the key ${kid} is not published`);
  const { payload, protectedHeader } = await compactVerify(jws, await importJWK(key, "ES256"), { algorithms: ["ES256"] });
  assert.equal(protectedHeader.typ, typ);
  return JSON.parse(text(payload));
}

async function open(ask) {
  const bearer = { authorization: `Bearer ${await token(ask.authorization_details)}` };
  const answer = await http("GET", ask.path, bearer);
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
  console.log(`ok   npm jose: ${ask.name}: ${records.length} opened`);
}

for (const ask of world.asks)
  if (ask.client === "hospital-a" && ask.expect === "permit" && ask.path) await open(ask);
agent.destroy();
