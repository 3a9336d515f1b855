// Who gets the token: npm `jose` by hand, or one of two OAuth clients that do it all themselves.
// Each gives { token(details), read(path, token) -> { status, text }, close() }; play.mjs plays with them.
import { randomUUID } from "node:crypto";
import { Agent as HttpsAgent, request } from "node:https";
import assert from "node:assert/strict";

const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

// node:https, and an assertion made by hand.
export async function jose({ world, client, tls, key }) {
  const { SignJWT, importJWK } = await import("jose");
  const agent = new HttpsAgent({ ...tls, keepAlive: true });
  const http = (method, path, headers = {}, body = undefined) =>
    new Promise((done, fail) => {
      const call = request(world.url + path, { method, agent, headers }, (answer) => {
        const chunks = [];
        answer.on("data", (chunk) => chunks.push(chunk)).on("end", () => done({ status: answer.statusCode, text: Buffer.concat(chunks).toString() }));
      });
      call.on("error", fail).end(body);
    });
  return {
    async token(details) {
      const assertion = await new SignJWT({ jti: randomUUID() })
        .setProtectedHeader({ alg: "ES256", kid: key.kid })
        .setIssuer(client).setSubject(client).setAudience(world.issuer).setIssuedAt().setExpirationTime("1 minute")
        .sign(await importJWK(key, "ES256"));
      const form = new URLSearchParams({
        grant_type: "client_credentials", client_id: client, client_assertion: assertion,
        client_assertion_type: ASSERTION_TYPE, authorization_details: JSON.stringify([details]),
      });
      const answer = await http("POST", "/oauth/token", { "content-type": "application/x-www-form-urlencoded" }, form.toString());
      const said = JSON.parse(answer.text);
      if (answer.status !== 200) throw Object.assign(new Error(answer.text), said);
      return said.access_token;
    },
    read: (path, token) => http("GET", path, token ? { authorization: `Bearer ${token}` } : {}),
    close: () => agent.destroy(),
  };
}

// A fetch that shows the client certificate (undici's dispatcher), and writes down where it went.
async function certified({ tls }) {
  const { Agent, fetch } = await import("undici");
  const dispatcher = new Agent({ connect: tls });
  const went = [];
  const fetching = (url, options) => (went.push(String(url)), fetch(url, { ...options, dispatcher }));
  const read = async (world, path, token) => {
    const answer = await fetching(world.url + path, { headers: token ? { authorization: `Bearer ${token}` } : {} });
    return { status: answer.status, text: await answer.text() };
  };
  return { fetching, went, read, close: () => dispatcher.close() };
}

const signing = (key) => crypto.subtle.importKey("jwk", key, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);

// npm openid-client: discovery, private_key_jwt with aud = issuer, the mTLS alias of the token endpoint.
export async function openidClient({ world, client, tls, key }) {
  const oidc = await import("openid-client");
  const { fetching, went, read, close } = await certified({ tls });
  const config = await oidc.discovery(
    new URL(world.issuer), client, { use_mtls_endpoint_aliases: true },
    oidc.PrivateKeyJwt({ key: await signing(key), kid: key.kid }), { algorithm: "oauth2", [oidc.customFetch]: fetching });
  const alias = config.serverMetadata().mtls_endpoint_aliases.token_endpoint;
  return {
    async token(details) {
      const answer = await oidc.clientCredentialsGrant(config, { authorization_details: JSON.stringify([details]) });
      assert.equal(went.at(-1), alias, "it went by the mTLS alias");
      assert.deepEqual(answer.authorization_details[0].patient, details.patient);
      assert(answer.expiresIn() > 0);
      return answer.access_token;
    },
    async read(path, token) {
      if (!token) return read(world, path);
      const answer = await oidc.fetchProtectedResource(config, token, new URL(world.url + path), "GET");
      return { status: answer.status, text: await answer.text() };
    },
    close,
  };
}

// npm oauth4webapi: the same steps, one function each.
export async function oauth4webapi({ world, client: client_id, tls, key }) {
  const oauth = await import("oauth4webapi");
  const { fetching, went, read, close } = await certified({ tls });
  const options = { [oauth.customFetch]: fetching };
  const issuer = new URL(world.issuer);
  const found = await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...options });
  const server = await oauth.processDiscoveryResponse(issuer, found);
  const client = { client_id, use_mtls_endpoint_aliases: true };
  const how = oauth.PrivateKeyJwt({ key: await signing(key), kid: key.kid });
  return {
    async token(details) {
      const ask = { authorization_details: JSON.stringify([details]) };
      const response = await oauth.clientCredentialsGrantRequest(server, client, how, ask, options);
      assert.equal(went.at(-1), server.mtls_endpoint_aliases.token_endpoint, "it went by the mTLS alias");
      return (await oauth.processClientCredentialsResponse(server, client, response)).access_token;
    },
    async read(path, token) {
      if (!token) return read(world, path);
      const answer = await oauth.protectedResourceRequest(token, "GET", new URL(world.url + path), undefined, undefined, options);
      return { status: answer.status, text: await answer.text() };
    },
    close,
  };
}
