// Reads a hospital's connector with a FHIR client that is not ours, as the client's own guide says.
//
//     node read.mjs LIBRARY DIR      LIBRARY: fhir-kit-client fhirclient-js medplum      DIR: `sallyport dev --data DIR`
//
// `sallyport connect hospital` serves DIR/clients/hospital-a/kept/url. Pages are walked, a record is read by id, and what
// was not stated comes back in the words of the connector's OperationOutcome.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const [library, world] = process.argv.slice(2);
const text = (...path) => readFileSync(join(world, ...path), "utf8").trim();
const base = text("clients/hospital-a/kept/url");
const secret = text("clients/hospital-a/kept/secret");
const details = JSON.parse(text("world.json")).asks[0].authorization_details;
const nhs = details.patient;
const stated = {
  "Sallyport-Purpose": details.purpose,
  "Sallyport-Practitioner": details.practitioner.id,
  "Sallyport-Relationship": `${details.relationship.type}|${details.relationship.reference}`,
  "Sallyport-Patient": nhs,
};
const authorization = { Authorization: `Bearer ${secret}` };
const patient = `https://fhir.nhs.uk/Id/nhs-number|${nhs}`;

const clients = {
  async "fhir-kit-client"() {
    const { Client } = await import("fhir-kit-client");
    const client = new Client({ baseUrl: base, customHeaders: { ...stated, ...authorization } });
    const statement = await client.capabilityStatement();
    assert.equal(statement.fhirVersion, "4.0.1");
    const every = [];
    let pages = 0;
    let page = await client.search({
      resourceType: "Observation",
      searchParams: { "patient.identifier": patient, _count: 2 },
    });
    for (; page; page = await client.nextPage({ bundle: page })) {
      pages += 1;
      every.push(...page.entry.map((entry) => entry.resource));
    }
    assert.equal(pages, 2);
    const one = await client.read({ resourceType: "Observation", id: every.at(-1).id });
    assert.equal(JSON.stringify(one), JSON.stringify(every.at(-1)));
    const all = await client.operation({ name: "$everything", resourceType: "Patient", id: nhs, method: "GET" });
    const bare = new Client({ baseUrl: base, customHeaders: authorization });
    const refused = bare.search({ resourceType: "Observation", searchParams: { patient: nhs } });
    await assert.rejects(refused, (error) => {
      assert.equal(error.response.status, 400);
      return error.response.data.issue[0].details.text.startsWith("Sallyport-Purpose");
    });
    return [every.length, all.entry.length];
  },

  async "fhirclient-js"() {
    const { default: FHIR } = await import("fhirclient");
    const { IncomingMessage, ServerResponse } = await import("node:http");
    const request = new IncomingMessage(null);
    request.headers = { host: "127.0.0.1" };
    const client = FHIR(request, new ServerResponse(request)).client({
      serverUrl: base,
      tokenResponse: { access_token: secret, token_type: "Bearer" },
    });
    // It takes these headers along for the first page only: the connector's links say what was stated.
    const ask = (url, options) => client.request({ url, headers: stated }, options);
    const search = `Observation?patient.identifier=${encodeURIComponent(patient)}&_count=2`;
    const every = await ask(search, { pageLimit: 0, flat: true });
    const one = await ask(`Observation/${every.at(-1).id}`);
    assert.equal(JSON.stringify(one), JSON.stringify(every.at(-1)));
    const all = await ask(`Patient/${nhs}/$everything`);
    await assert.rejects(client.request(search), /Sallyport-Purpose/);
    return [every.length, all.entry.length];
  },

  async medplum() {
    const { MedplumClient } = await import("@medplum/core");
    const client = (headers) =>
      new MedplumClient({
        baseUrl: new URL(base).origin,
        fhirUrlPath: "fhir",
        accessToken: secret,
        fetch: (url, options) => fetch(url, { ...options, headers: { ...options?.headers, ...headers } }),
      });
    const medplum = client(stated);
    const every = [];
    let pages = 0;
    for await (const page of medplum.searchResourcePages("Observation", { patient: nhs, _count: "2" })) {
      pages += 1;
      every.push(...page);
    }
    assert.ok(pages >= 1);
    const one = await medplum.readResource("Observation", every.at(-1).id);
    assert.equal(JSON.stringify(one), JSON.stringify(every.at(-1)));
    const all = await medplum.readPatientEverything(nhs);
    // Without _count Medplum asks for a thousand.
    const many = await medplum.searchResources("Observation", { patient: nhs });
    assert.equal(many.length, every.length);
    await assert.rejects(client({}).searchResources("Observation", { patient: nhs }), /Sallyport-Purpose/);
    return [every.length, all.entry.length];
  },
};

const [observations, everything] = await clients[library]();
assert.deepEqual([observations, everything], [3, 14]);
console.log(`${library}: ${observations} observations over pages, one by id, ${everything} records of everything`);
