#!/usr/bin/env python3
"""What a registered hospital can learn beside what it was given: who is a patient, what exists, what was withheld.  curious.py DIR [READS]

Answers about what does not exist and about what is not for the asker are held against each other: bytes, headers, and the
time they take. A next link that was altered gives nothing that its token does not cover. The time is a figure with a
tolerance, not a proof: the medians of READS answers each (default 200), taken in turn, may differ by a tenth; a machine
that does other things is given three tries.
"""
import base64, json, statistics, sys, time

from ground import Ground, NOBODY, OTHER, PATIENT, Tried

TOLERANCE = 0.10


def shape(answer):
    """All that can be compared: status, body, headers but for the date, and the receipt by its length."""
    headers = sorted((name.lower(), len(value) if name.lower() == "sallyport-receipt" else value) for name, value in answer.headers.items() if name.lower() != "date")
    return answer.status_code, answer.text, headers


def without_receipt(answer):
    status, text, headers = shape(answer)
    return status, text, [pair for pair in headers if pair[0] != "sallyport-receipt"]


class Reader:
    def __init__(self, ground, name="hospital-a", patient=PATIENT):
        self.ground, self.party = ground, ground.party(name)
        self.bearer = {"Authorization": f"Bearer {self.party.token(ground.details(patient))}"}

    def get(self, path):
        return self.party.http.get(path if path.startswith("https") else self.ground.url + path, headers=self.bearer, timeout=30)


def alike(ground, tried, reader):
    """Records and patients that are there and not for this token, against some that are not there at all."""
    for what, there, absent in (
        ("search of another patient", f"/fhir/Observation?patient={OTHER}", f"/fhir/Observation?patient={NOBODY}"),
        ("$everything of another patient", f"/fhir/Patient/{OTHER}/$everything", f"/fhir/Patient/{NOBODY}/$everything"),
        ("another patient's record by its id", "/fhir/Observation/quill-obs-7", "/fhir/Observation/nobody-obs-7"),
        ("another's Patient by its number", f"/fhir/Patient/{OTHER}", f"/fhir/Patient/{NOBODY}"),
    ):
        one, other = reader.get(there), reader.get(absent)
        tried.line(what, without_receipt(one) == without_receipt(other) and one.status_code == 403, f"{one.status_code} and {other.status_code}, {len(one.content)} and {len(other.content)} bytes, the same")
        lengths = [len(it.headers.get("Sallyport-Receipt", "")) for it in (one, other)]
        tried.line(f"{what}, receipts", abs(lengths[0] - lengths[1]) <= 160, f"{lengths[0]} and {lengths[1]} letters (a path grows with the log)")
    tokens = []
    for patient in (OTHER, NOBODY):
        details = ground.details(patient) | {"relationship": {"type": "referral", "reference": "UBRN-none"}}
        try:
            reader.party.token(details)
            tokens.append("given")
        except AssertionError as error:
            tokens.append(str(error))
    tried.line("token for a patient who is here and one who is not, without a referral", tokens[0] == tokens[1] != "given", tokens[0][:70])


def search_side_channels(tried, reader):
    """What is withheld must not show in a count, a filter or an order."""
    plain = reader.get(f"/fhir/Patient/{PATIENT}/$everything?_count=200")
    first = json.loads(plain.text.splitlines()[0])
    tried.line("a release", plain.status_code == 200 and "total" not in first, "says no total")
    tried.line("the notice", first.get("notice") == "Items may have been withheld.", "stands whether or not anything was withheld")
    empty = reader.get(f"/fhir/Observation?patient={PATIENT}&code=http://snomed.info/sct|999999999")
    lines = [json.loads(line) for line in empty.text.splitlines()]
    tried.line("a search that finds nothing", empty.status_code == 200 and lines[0].get("notice") == first["notice"] and lines[-1] == {"end": {"records": 0}}, "has the same form and notice")
    for name in ("_total=accurate", "_summary=count", "_sort=date", "_has:Observation:patient:code=1", "_include=*", "_revinclude=*", "_lastUpdated=ge2000", "_security=R", "_tag=x", "_profile=x", "_text=x", "_content=x", "_id=x", "subject:Patient.name=x"):
        answer = reader.get(f"/fhir/Observation?patient={PATIENT}&{name}")
        tried.line(f"search with {name}", answer.status_code == 400, answer.status_code)
    # A Condition with the labels R and PSY, which no agreement of this world opens: by its code, its kind and its id.
    quill = Reader(reader.ground, patient=OTHER)
    found = [quill.get(f"/fhir/Condition?patient={OTHER}&code=http://snomed.info/sct|{code}").text.splitlines() for code in ("195967001", "370143000", "999999999")]
    records = [json.loads(lines[-1])["end"]["records"] for lines in found]
    tried.line("a search by code: open, withheld, absent", records == [1, 0, 0], f"{records} records")
    withheld, absent = (without_receipt(quill.get(f"/fhir/Condition/{name}")) for name in ("quill-cond-3", "quill-cond-9"))
    tried.line("a withheld record by its id, against none", withheld == absent, f"{withheld[0]} and {absent[0]}, the same")


def tampered_links(tried, reader):
    answer = reader.get(f"/fhir/Patient/{PATIENT}/$everything?_count=2")
    link = json.loads(answer.text.splitlines()[0]).get("next")
    tried.line("a next link", bool(link), "is given" if link else "is not given")
    if not link:
        return
    tried.line("the link as it is", reader.get(link).status_code == 200, "is served")
    head, cursor = link.split("_cursor=")
    place = base64.urlsafe_b64decode(cursor.split("&")[0] + "==")
    for what, changed in (("all zero", bytes(24)), ("all ones", b"\xff" * 24), ("one bit turned", bytes([place[0] ^ 1]) + place[1:]), ("the last byte turned", place[:-1] + bytes([place[-1] ^ 0xFF])), ("a byte short", place[:-1]), ("a byte long", place + b"\0")):
        got = reader.get(head + "_cursor=" + base64.urlsafe_b64encode(changed).rstrip(b"=").decode())
        records = got.text.count('"record"') if got.status_code == 200 else 0
        whose = all(PATIENT in line for line in got.text.splitlines()[:1]) if got.status_code == 200 else True
        tried.line(f"the link with its place {what}", got.status_code in (200, 400) and whose, f"{got.status_code}, {records} of the own patient's records")
    got = reader.get(link.replace(PATIENT, OTHER))
    tried.line("the link for another patient", got.status_code == 403, got.status_code)
    other = Reader(reader.ground, patient=OTHER)
    tried.line("the link with a token for another patient", other.get(link).status_code == 403, "403")


def timing(tried, reader, reads, tries=3):
    """One of each in turn, so that what else the machine does hits both alike."""
    there, absent = f"/fhir/Observation?patient={OTHER}", f"/fhir/Observation?patient={NOBODY}"
    taken = {there: [], absent: []}
    for n in range(reads + 20):
        for path in (there, absent) if n % 2 else (absent, there):
            began = time.perf_counter()
            reader.get(path)
            if n >= 20:
                taken[path].append(time.perf_counter() - began)
    medians = [statistics.median(taken[path]) * 1000 for path in (there, absent)]
    apart = abs(medians[0] - medians[1]) / max(medians)
    spread = statistics.quantiles(taken[there], n=4)
    if apart > TOLERANCE and tries > 1:
        return timing(tried, reader, reads, tries - 1)
    tried.line("time of a refusal, patient here against nobody", apart <= TOLERANCE,
               f"medians {medians[0]:.3f} and {medians[1]:.3f} ms, {100 * apart:.1f} % apart (allowed {100 * TOLERANCE:.0f} %); quartiles {spread[0] * 1000:.2f} to {spread[2] * 1000:.2f} ms; {reads} each")


def main(folder, reads="200"):
    ground, tried = Ground(folder), Tried("curious")
    reader = Reader(ground)
    alike(ground, tried, reader)
    search_side_channels(tried, reader)
    tampered_links(tried, reader)
    timing(tried, reader, int(reads))
    return tried.end(ground)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
