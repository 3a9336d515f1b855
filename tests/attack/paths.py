#!/usr/bin/env python3
"""Paths, queries and request lines that mean one thing to one reader and another to the next.  paths.py DIR

With a token for one patient. Whatever the spelling, another patient's records never come, no route is reached by a
spelling that another layer would not recognise, and nothing answers 5xx.
"""
import json, sys, urllib.parse

from ground import Ground, NOBODY, OTHER, PATIENT, Tried


def request(method, target, headers=(), body=b"", version="HTTP/1.1", close=True):
    lines = [f"{method} {target} {version}", "Host: x", *headers] + (["Connection: close"] if close else [])
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def spellings():
    """Targets that begin as this hospital's own patient and wander off; what must come of each."""
    every = "/fhir/Patient/{}/$everything"
    other, mine = every.format(OTHER), every.format(PATIENT)
    for what, target in (
        ("dot segments to another", mine + f"/../../{OTHER}/$everything"), ("encoded dot segments", f"/fhir/Patient/{PATIENT}/%2e%2e/{OTHER}/$everything"),
        ("encoded slashes", f"/fhir/Patient/{PATIENT}%2F..%2F{OTHER}/$everything"), ("double encoding", f"/fhir/Patient/{PATIENT}%252F..%252F{OTHER}/$everything"),
        ("backslashes", f"/fhir/Patient/{PATIENT}\\..\\{OTHER}/$everything"), ("a semicolon", f"/fhir/Patient/{OTHER};{PATIENT}/$everything"), ("NUL", f"/fhir/Patient/{PATIENT}%00{OTHER}/$everything"),
        ("two slashes", f"/fhir//Patient/{OTHER}/$everything"), ("a slash behind", other + "/"), ("upper case", f"/FHIR/Patient/{OTHER}/$everything"), ("full-width digits", "/fhir/Patient/" + urllib.parse.quote("９９９００００026") + "/$everything"),
        ("overlong UTF-8", f"/fhir/Patient/{PATIENT}%c0%af..%c0%af{OTHER}/$everything"), ("half an escape", f"/fhir/Patient/{PATIENT}%2/$everything"), ("a question mark encoded", f"/fhir/Patient/{PATIENT}/$everything%3Fpatient={OTHER}"),
        ("a fragment", f"{mine}#/{OTHER}"), ("encoded dollar, another", f"/fhir/Patient/{OTHER}/%24everything"), ("another, plainly", other), ("nobody", every.format(NOBODY)),
        ("patient twice, own first", f"/fhir/Observation?patient={PATIENT}&patient={OTHER}"), ("patient twice, own last", f"/fhir/Observation?patient={OTHER}&patient={PATIENT}"),
        ("patient as array", f"/fhir/Observation?patient[]={OTHER}"), ("patient with modifier", f"/fhir/Observation?patient:identifier={OTHER}"), ("patients with a comma", f"/fhir/Observation?patient={PATIENT},{OTHER}"),
        ("subject beside", f"/fhir/Observation?patient={PATIENT}&subject={OTHER}"), ("chained", f"/fhir/Observation?patient={PATIENT}&subject.identifier={OTHER}"), ("parameter name encoded", f"/fhir/Observation?%70atient={OTHER}"),
        ("no patient", "/fhir/Observation"), ("patient empty", "/fhir/Observation?patient="), ("patient a wildcard", "/fhir/Observation?patient=*"), ("semicolon for ampersand", f"/fhir/Observation?patient={PATIENT};patient={OTHER}"),
        ("_has", f"/fhir/Patient?patient={PATIENT}&_has:Observation:patient:code=1"), ("_include", f"/fhir/Observation?patient={PATIENT}&_include=Observation:patient"), ("_revinclude", f"/fhir/Patient?patient={PATIENT}&_revinclude=*"),
        ("_sort", f"/fhir/Observation?patient={PATIENT}&_sort=date"), ("_total", f"/fhir/Observation?patient={PATIENT}&_total=accurate"), ("_summary=count", f"/fhir/Observation?patient={PATIENT}&_summary=count"), ("_elements", f"/fhir/Observation?patient={PATIENT}&_elements=id"),
        ("_filter", f"/fhir/Observation?patient={PATIENT}&_filter=id%20eq%20x"), ("_query", f"/fhir/Observation?patient={PATIENT}&_query=all"), ("_list", f"/fhir/Observation?patient={PATIENT}&_list=x"), ("_contained", f"/fhir/Observation?patient={PATIENT}&_contained=both"),
        ("_count 0", f"/fhir/Observation?patient={PATIENT}&_count=0"), ("_count -1", f"/fhir/Observation?patient={PATIENT}&_count=-1"), ("_count 201", f"/fhir/Observation?patient={PATIENT}&_count=201"), ("_count huge", f"/fhir/Observation?patient={PATIENT}&_count=99999999999999999999"),
        ("33 parameters", "/fhir/Observation?" + "&".join(["code=1"] * 33)), ("a path of 5,000 bytes", "/fhir/Observation/" + "a" * 5000), ("a query of 5,000 bytes", "/fhir/Observation?patient=" + "1" * 5000),
        ("a file", "/../../../../etc/passwd"), ("a file by a tile", "/log/tile/../../data/journal/0"), ("a file by an encoded tile", "/log/tile/..%2F..%2Fdata%2Fkeyring"), ("entries by an encoded tile", "/log/tile/%65ntries/000.p/1"),
        ("entries by dots", "/log/tile/0/../entries/000.p/1"), ("the keyring", "/log/tile/0/%2e%2e/%2e%2e/%2e%2e/root.key"), ("admin by dots", "/fhir/../admin/directory"), ("admin, encoded", "/%61dmin/directory"), ("admin, slashes", "//admin/directory"),
        ("absolute form, another host", f"https://evil.example{other}"), ("asterisk", "*"), ("authority", "evil.example:443"),
    ):
        yield what, target


def smuggled():
    """Two requests in one, by disagreeing about where the first ends."""
    inner = f"GET /admin/directory HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    chunked = b"0\r\n\r\n" + inner
    for what, headers, body in (
        ("content-length twice", ["Content-Length: 0", f"Content-Length: {len(inner)}"], inner), ("content-length and chunked", [f"Content-Length: {len(chunked)}", "Transfer-Encoding: chunked"], chunked),
        ("chunked, misspelt", [f"Content-Length: {len(chunked)}", "Transfer-Encoding: xchunked"], chunked), ("chunked behind a tab", [f"Content-Length: {len(chunked)}", "Transfer-Encoding:\tchunked"], chunked), ("chunked, then identity", ["Transfer-Encoding: chunked, identity"], chunked),
        ("a space before the colon", ["Content-Length : 5"], b"hello"), ("content-length +5", ["Content-Length: +5"], b"hello"), ("content-length hex", ["Content-Length: 0x5"], b"hello"), ("content-length -1", ["Content-Length: -1"], b""), ("chunk size signed", ["Transfer-Encoding: chunked"], b"-1\r\n\r\n"),
        ("chunk size overflowing", ["Transfer-Encoding: chunked"], b"FFFFFFFFFFFFFFFFF\r\n\r\n"), ("a header folded", ["X-A: b", " Content-Length: 5"], b""), ("a bare CR", ["X-A: b\rContent-Length: 5"], b""), ("NUL in a header", ["X-A: b\x00c"], b""), ("a header without a name", [": x"], b""),
    ):
        yield what, headers, body


def main(folder):
    ground, tried = Ground(folder), Tried("paths")
    hospital = ground.party("hospital-a")
    token = f"Authorization: Bearer {hospital.token(ground.details())}"
    count = len(json.dumps(ground.party("hospital-a").open(next(a for a in ground.world["asks"] if a["name"] == "permitted")), default=str))
    tried.line("the honest read", count > 2, "opens")
    for what, target in spellings():
        status, head, body = ground.raw(request("GET", target, [token]))
        lines = body.splitlines()
        # Served is only what opens as the token's own patient: its receipt says whose it is.
        foreign = OTHER.encode() in body or b"resourceType\":\"Bundle" in body or b"root:" in body or b'"organisations"' in body
        own = status == 200 and b'"ticket"' in body and PATIENT.encode() in body
        tile = status == 200 and "tile" in target and len(body) == 32
        tried.line(what, status < 500 and not foreign and (status != 200 or own or tile), f"{status or 'cut off'}{f', {len(lines) - 2} of the own records' if own else ''}")
    for what, headers, body in smuggled():
        status, head, answer = ground.raw(request("POST", "/oauth/token", headers, body, close=False), "hospital-b")
        second = answer.count(b"HTTP/1.1 ")
        tried.line(f"smuggled, {what}", 400 <= status < 500 or status == 0, f"{status or 'cut off'}, {second} more answers")
        if second:
            tried.line(f"smuggled, {what}, a second answer", b'"organisations"' not in answer, "is of no other route")
    for what, line in (("HTTP/0.9", b"GET /fhir/metadata\r\n\r\n"), ("HTTP/3.0 on the line", b"GET /fhir/metadata HTTP/3.0\r\nHost: x\r\n\r\n"), ("no host", b"GET /fhir/metadata HTTP/1.1\r\nConnection: close\r\n\r\n"), ("CONNECT", b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
                       ("TRACE", b"TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), ("upgrade to h2c", b"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"), ("method override", b"POST /fhir/Observation/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-HTTP-Method-Override: DELETE\r\nContent-Length: 0\r\n\r\n")):
        status, _, body = ground.raw(line)
        tried.line(what, status < 500 and status != 101, status or "cut off")
    # What comes of a header that a proxy would have set: nothing.
    for name in ("X-Forwarded-Client-Cert", "X-SSL-Client-Cert", "X-Forwarded-For", "X-Original-URL", "X-Rewrite-URL", "Forwarded"):
        status, _, body = ground.raw(request("GET", "/admin/directory", [f"{name}: /admin/status;admin-1"]), "hospital-a")
        tried.line(f"{name}", status == 403, status)
    return tried.end(ground)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
