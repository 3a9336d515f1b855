#!/usr/bin/env python3
"""Reads a hospital's connector with a FHIR client that is not ours, as the client's own guide says.

    python3 read.py LIBRARY DIR      LIBRARY: fhirpy fhirclient-py      DIR: `sallyport dev --data DIR`

`sallyport connect hospital` serves DIR/clients/hospital-a/kept/url. Pages are walked, a record is read by id, and what
was not stated comes back in the words of the connector's OperationOutcome.
"""
import json, pathlib, sys

library, world = sys.argv[1], pathlib.Path(sys.argv[2])
kept = world / "clients/hospital-a/kept"
base, secret = ((kept / name).read_text().strip() for name in ("url", "secret"))
details = json.loads((world / "world.json").read_text())["asks"][0]["authorization_details"]
nhs, ground = details["patient"], details["relationship"]
headers = {
    "Sallyport-Purpose": details["purpose"],
    "Sallyport-Practitioner": details["practitioner"]["id"],
    "Sallyport-Relationship": f"{ground['type']}|{ground['reference']}",
    "Sallyport-Patient": nhs,
}
TAG = "https://fhir.nhs.uk/Id/nhs-number|"


def fhirpy():
    from fhirpy import SyncFHIRClient
    from fhirpy.base.exceptions import OperationOutcome

    client = SyncFHIRClient(base, authorization=f"Bearer {secret}", extra_headers=headers)
    search = client.resources("Observation").search(**{"patient.identifier": TAG + nhs}).limit(2)
    first, every = search.fetch(), search.fetch_all()
    assert len(first) == 2 and len(every) == 3, (len(first), len(every))
    one = client.reference("Observation", every[-1]["id"]).to_resource()
    assert one.serialize() == every[-1].serialize()
    bundle = client.execute(f"Patient/{nhs}/$everything", method="get")
    try:
        SyncFHIRClient(base, authorization=f"Bearer {secret}").resources("Observation").search(patient=nhs).fetch()
        sys.exit("a request that states no purpose was answered")
    except OperationOutcome as error:
        assert "Sallyport-Purpose" in str(error), error
    return len(every), len(bundle["entry"])


def fhirclient():
    from fhirclient import client
    from fhirclient.models.observation import Observation

    session = client.FHIRClient(settings={"app_id": "interop", "api_base": base})
    session.server.session.headers.update(headers, Authorization=f"Bearer {secret}")
    session.prepare()
    search = Observation.where({"patient.identifier": TAG + nhs, "_count": "2"})
    pages = list(search.perform_iter(session.server))
    every = [entry.resource for page in pages for entry in page.entry]
    assert len(pages) == 2 and len(every) == 3, (len(pages), len(every))
    one = Observation.read(every[-1].id, session.server)
    assert one.as_json() == every[-1].as_json()
    bundle = session.server.request_json(f"Patient/{nhs}/$everything")
    return len(every), len(bundle["entry"])


observations, everything = {"fhirpy": fhirpy, "fhirclient-py": fhirclient}[library]()
assert (observations, everything) == (3, 14), (observations, everything)
print(f"{library}: {observations} observations over two pages, one by id, {everything} records of everything")
