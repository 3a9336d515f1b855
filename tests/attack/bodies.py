#!/usr/bin/env python3
"""Torture JSON, and what is no JSON, to every route that takes a body.  bodies.py DIR [JSON-FOLDER]

Nothing may answer 5xx, cut the connection, or take what RFC 8259 forbids. The folder, where given, holds JSONTestSuite:
no file n_* may be taken by any route, nor an array: every
form here is an object.
"""
import json, pathlib, sys, time

from ground import Ground, PATIENT, PRACTICE, Tried, said

R4 = "application/fhir+json; fhirVersion=4.0"


def own():
    """Small files with a great effect, and the classics; each with whether it may be JSON at all."""
    yield "nothing", b"", False
    yield "null", b"null", True
    yield "100,000 open arrays", b"[" * 100_000, False
    yield "30,000 nested objects", b'{"a":' * 30_000 + b"1" + b"}" * 30_000, True
    yield "a number of 60,000 digits", b'{"n":' + b"9" * 60_000 + b"}", True
    yield "1e999999999", b'{"n":1e999999999}', True
    yield "NaN", b'{"n":NaN}', False
    yield "a name twice", b'{"resourceType":"Observation","resourceType":"Patient","why":"a","why":"b"}', True
    yield "a name twice, one escaped", b'{"why":"a","wh\\u0079":"b"}', True
    yield "lone surrogate", b'{"why":"\\ud800"}', True
    yield "NUL in a string", b'{"why":"\\u0000"}', True
    yield "raw NUL", b'{"why":"\x00"}', False
    yield "no UTF-8", b'{"why":"\xff\xfe"}', False
    yield "UTF-16", '{"why":"a"}'.encode("utf-16"), False
    yield "a BOM", b"\xef\xbb\xbf{}", False
    yield "two values", b"{}{}", False
    yield "a comment", b"{}//", False
    yield "a trailing comma", b'{"a":1,}', False
    yield "__proto__", b'{"__proto__":{"admin":true},"constructor":1}', True
    yield "20,000 members", json.dumps({f"m{n}": n for n in range(4_000)}).encode(), True
    yield "an array for a form", b"[1]", False
    yield "an array for a longer form", b'["noted","x","y",{}]', False
    yield "a bell", b'{"why":"\x07"}', False


def routes(ground):
    """Each route that takes JSON, a party that may use it, and its headers."""
    tokens = {
        "deposit": ("practice-a", {"type": "deposit", "practice": PRACTICE}), "agreement": ("practice-a", {"type": "agreement", "practice": PRACTICE}),
        "accept": ("hospital-a", {"type": "agreement", "organisation": "RJ1"}), "feed": ("practice-a", {"type": "objections", "practice": PRACTICE}),
        "consent": ("practice-a", {"type": "consent", "practice": PRACTICE, "patient": PATIENT}),
    }
    tokens = {name: (ground.party(party), ground.party(party).token(details)) for name, (party, details) in tokens.items()}
    bare = {name: (ground.party(name), None) for name in ("admin-1", "privacy-officer")}
    agreement = f"/agreements/{PRACTICE}/RJ1/torture"
    for method, path, who, media in (
        ("POST", "/fhir", tokens["deposit"], R4), ("PUT", "/fhir/Observation/torture", tokens["deposit"], R4), ("PUT", "/fhir/Consent/torture", tokens["consent"], R4),
        ("PUT", agreement, tokens["agreement"], "application/json"), ("POST", f"{agreement}/accept", tokens["accept"], "application/json"),
        ("PUT", f"/practices/{PRACTICE}", tokens["agreement"], "application/json"), ("POST", "/feed/objections", tokens["feed"], "application/x-ndjson"),
        ("PUT", "/feed/objections/settings", tokens["feed"], "application/json"), ("POST", "/admin/acts", bare["admin-1"], "application/json"),
        ("POST", "/admin/training", bare["admin-1"], "application/json"), ("POST", "/admin/keys/A81001/retire", bare["admin-1"], "application/json"),
        ("POST", f"/admin/proposals/{'0' * 64}/approve", bare["admin-1"], "application/json"), ("POST", "/reviews/0", bare["privacy-officer"], "application/json"),
        ("POST", "/oauth/token", (ground.party("hospital-a"), None), "application/x-www-form-urlencoded"),
    ):
        headers = {"Content-Type": media} | ({"Authorization": f"Bearer {who[1]}"} if who[1] else {})
        yield method, path, who[0].http, headers


def main(folder, suite=None):
    ground, tried = Ground(folder), Tried("bodies")
    cases = [(name, body, may_be) for name, body, may_be in own()]
    for path in sorted(pathlib.Path(suite).glob("*.json")) if suite else []:
        body = path.read_bytes()
        cases.append((path.name, body, not path.name.startswith("n_") and not body.lstrip().startswith(b"[")))
    for method, path, http, headers in routes(ground):
        codes, wrong = {}, []
        for name, body, may_be in cases:
            try:
                answer = http.request(method, ground.url + path, data=body, headers=headers, timeout=30)
                code = answer.status_code
            except OSError as error:
                answer, code = None, type(error).__name__
            codes[code] = codes.get(code, 0) + 1
            # An empty body is no body: /approve takes none.
            if answer is None or code >= 500 or (code < 300 and not may_be and body):
                wrong.append(f"{name}: {code if answer is None else said(answer)}")
        came = " ".join(f"{code}:{count}" for code, count in sorted(codes.items(), key=str))
        tried.line(f"{method} {path}, {len(cases)} bodies", not wrong, f"{came} {wrong[:3] or ''}")
    return tried.end(ground)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
