// What is sealed: audit keys that two administrators disclosed, the bodies they open, and whether a body is the one that its
// leaf commits to. Keys stay in this page's memory and are gone with it. Pure but for WebCrypto; Node runs it too.

import { base64url, concat, equal, toBase64url, utf8 } from "./bytes.js";
import { sha256 } from "./merkle.js";

const GROUPS = ["actor", "context", "object", "subject"];
const TYPE = "sallyport-audit-keys+jwt";
const text = (bytes) => new TextDecoder("utf-8", { fatal: true }).decode(bytes);
const json = (part) => JSON.parse(text(base64url(part)));
const u32 = (number) => Uint8Array.of(number >>> 24, number >>> 16, number >>> 8, number);
const sized = (bytes) => concat(u32(bytes.length), bytes);

/** RFC 8785: JavaScript's own texts of numbers and strings, with the members in order. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`);
  return `{${members.join(",")}}`;
}

/** ECDH-ES+A256KW with A256GCM (RFC 7518 §4.6, §5.3), compact. */
async function openJwe(compact, jwk) {
  const [header, wrapped, iv, sealed, tag] = compact.split(".");
  const { alg, enc, epk, apu, apv } = json(header);
  if (alg !== "ECDH-ES+A256KW" || enc !== "A256GCM") throw new Error("it is sealed in another way than the gateway's");
  const curve = { name: "ECDH", namedCurve: "P-256" };
  const own = await crypto.subtle.importKey("jwk", { kty: jwk.kty, crv: jwk.crv, x: jwk.x, y: jwk.y, d: jwk.d }, curve, false, ["deriveBits"]);
  const theirs = await crypto.subtle.importKey("jwk", epk, curve, false, []);
  const z = new Uint8Array(await crypto.subtle.deriveBits({ name: "ECDH", public: theirs }, own, 256));
  const info = concat(u32(1), z, sized(utf8(alg)), sized(base64url(apu)), sized(base64url(apv)), u32(256));
  const kek = await crypto.subtle.importKey("raw", await sha256(info), "AES-KW", false, ["unwrapKey"]);
  const cek = await crypto.subtle.unwrapKey("raw", base64url(wrapped), kek, "AES-KW", "AES-GCM", false, ["decrypt"]);
  const gcm = { name: "AES-GCM", iv: base64url(iv), additionalData: utf8(header) };
  return { apu, apv, plain: await crypto.subtle.decrypt(gcm, cek, concat(base64url(sealed), base64url(tag))) };
}

/** The payload of an ES256 JWS that one of these published keys signed. */
async function openJws(compact, published) {
  const [header, payload, signature] = compact.split(".");
  const { alg, typ, kid } = json(header);
  const jwk = published.find((key) => key.kid === kid);
  if (alg !== "ES256" || typ !== TYPE || !jwk) throw new Error("it is not signed by a key that the gateway publishes");
  const curve = { name: "ECDSA", namedCurve: "P-256" };
  const key = await crypto.subtle.importKey("jwk", { kty: jwk.kty, crv: jwk.crv, x: jwk.x, y: jwk.y }, curve, false, ["verify"]);
  const how = { name: "ECDSA", hash: "SHA-256" };
  if (!(await crypto.subtle.verify(how, key, base64url(signature), utf8(`${header}.${payload}`)))) throw new Error("its signature is wrong");
  return json(payload);
}

/** The audit keys of a disclosure, `[{name, bytes}]`; throws in words. */
export async function disclosedKeys(disclosed, jwk, published) {
  const keys = [];
  for (const compact of disclosed.keys ?? []) {
    const { apu, apv, plain } = await openJwe(compact, jwk).catch(() => {
      throw new Error("this key does not open this disclosure: it was made for another one");
    });
    const claims = await openJws(text(plain), published);
    const isWhole = apu === toBase64url(utf8(claims.iss)) && apv === toBase64url(utf8(`${claims.aud}|${claims.jti}`));
    if (!isWhole) throw new Error("the disclosure is not whole");
    keys.push(...claims.keys.map((key) => ({ name: key.kid, bytes: base64url(key.k) })));
  }
  if (!keys.length) throw new Error("the disclosure holds no key");
  return keys;
}

const hmacKey = (bytes) => crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
const hmac = async (key, message) => new Uint8Array(await crypto.subtle.sign("HMAC", key, message));

async function derive(bytes, salt, info) {
  const key = await crypto.subtle.importKey("raw", bytes, "HKDF", false, ["deriveBits"]);
  const how = { name: "HKDF", hash: "SHA-256", salt, info: utf8(info) };
  return new Uint8Array(await crypto.subtle.deriveBits(how, key, 256));
}

/** Audit keys made ready: each finds its entries by their tags and opens their bodies. */
export class Opener {
  #keys;

  static async of(keys) {
    const opener = new Opener();
    opener.#keys = await Promise.all(
      keys.map(async ({ bytes }) => ({
        bytes,
        tags: await hmacKey(await derive(bytes, new Uint8Array(), "sallyport/audit-tag/v1")),
      })),
    );
    return opener;
  }

  /** Which key opens the entry with this leaf. */
  async #keyOf(nonce, tag) {
    for (const key of this.#keys) {
      const whole = await hmac(key.tags, concat(utf8("tag-v1"), nonce));
      if (equal(whole.subarray(0, 16), tag)) return key;
    }
    return null;
  }

  /** `{plain}`, `{altered: true}` if a key fits and the body is not the one committed to, or null without a key. */
  async open(leaf, body) {
    const [nonce, tag] = [base64url(leaf.n ?? ""), base64url(leaf.tag ?? "")];
    if (nonce?.length !== 16 || tag?.length !== 16) return null;
    const key = await this.#keyOf(nonce, tag);
    if (!key) return null;
    try {
      return { plain: await opened(leaf, key, nonce, body) };
    } catch {
      return { altered: true };
    }
  }
}

async function opened(leaf, key, nonce, body) {
  if (toBase64url(await sha256(body)) !== leaf.b || body[0] !== 1) throw new Error("another body");
  const secret = await derive(key.bytes, nonce, "sallyport/audit-body/v1");
  const sealing = await crypto.subtle.importKey("raw", secret, "AES-GCM", false, ["decrypt"]);
  const gcm = { name: "AES-GCM", iv: body.subarray(1, 13), additionalData: concat(Uint8Array.of(1), nonce) };
  const plain = JSON.parse(text(await crypto.subtle.decrypt(gcm, sealing, body.subarray(13))));
  if (!(await fits(plain, leaf))) throw new Error("not what was committed to");
  return plain;
}

/** `SHA-256("sallyport/audit/v1/NAME" ‖ 0x00 ‖ salt ‖ RFC 8785 of value)` */
export async function commitment(name, salt, value) {
  return toBase64url(await sha256(concat(utf8(`sallyport/audit/v1/${name}`), Uint8Array.of(0), salt, utf8(canonical(value)))));
}

/** Whether each of the four groups of a plain body is the one that its leaf commits to. */
export async function fits(plain, leaf) {
  const secret = base64url(plain.s ?? "");
  if (secret?.length !== 32) return false;
  const salts = await hmacKey(secret);
  for (const name of GROUPS) {
    const salt = await hmac(salts, utf8(name));
    if ((await commitment(name, salt, plain[name])) !== leaf.c?.[name]) return false;
  }
  return true;
}

/** Whether what a receipt opens fits its leaf. */
export async function opensTruly(openings, leaf) {
  for (const [name, { salt, value }] of Object.entries(openings ?? {})) {
    const bytes = base64url(salt);
    if (bytes?.length !== 32 || (await commitment(name, bytes, value)) !== leaf.c?.[name]) return false;
  }
  return true;
}

/** The bodies of a bundle: each behind its length as four bytes, big end first. */
export function bodiesOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const bodies = [];
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = view.getUint32(at);
    bodies.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return bodies;
}
