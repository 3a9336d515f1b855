#!/usr/bin/env python3
"""Forged, altered, stale, foreign and replayed JWTs: client assertions and access tokens.  tokens.py DIR

Each begins as one that is believed, and one thing about it is changed. All must be refused with 401 (an assertion: 400
or 401), and none may read a record.
"""
import hashlib, hmac, json, sys, time, uuid

from cryptography.hazmat.primitives.asymmetric import ec
from jwcrypto import jwk, jws

from ground import Ground, OTHER, Tried, b64, said
import play


def signed(claims, key, header, raw=None):
    """A JWS whose payload may be given to the letter."""
    out = jws.JWS(raw if raw is not None else json.dumps(claims))
    out.allowed_algs = ["ES256", "HS256", "ES384", "RS256", "EdDSA", "none"]
    out.add_signature(key, header["alg"], json.dumps(header))
    return out.serialize(compact=True)


def by_hand(header, payload, signature=b""):
    text = lambda part: b64(part if isinstance(part, (str, bytes)) else json.dumps(part))
    return f"{text(header)}.{text(payload)}.{b64(signature)}"


def mac(header, payload, secret):
    text = by_hand(header, payload).rsplit(".", 1)[0]
    return f"{text}.{b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def low_s_twin(token):
    """The other signature of the same bytes: r, n - s."""
    n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    head, payload, signature = token.split(".")
    bytes_ = play.unb64(signature)
    s = n - int.from_bytes(bytes_[32:], "big")
    return f"{head}.{payload}.{b64(bytes_[:32] + s.to_bytes(32, 'big'))}"


class Assertions:
    def __init__(self, ground, tried):
        self.ground, self.tried = ground, tried
        self.hospital = ground.party("hospital-a")
        self.key = jwk.JWK(**self.hospital.key("sign.jwk"))
        self.kid = self.hospital.key("sign.jwk")["kid"]

    def claims(self, **changed):
        now = int(time.time())
        claims = {"iss": "RJ1", "sub": "RJ1", "aud": self.ground.issuer, "jti": str(uuid.uuid4()), "iat": now, "exp": now + 60}
        return {name: value for name, value in (claims | changed).items() if value is not ...}

    def send(self, assertion, session=None, **form):
        form = {"grant_type": "client_credentials", "client_id": "RJ1", "client_assertion_type": play.ASSERTION_TYPE,
                "client_assertion": assertion, "authorization_details": json.dumps([self.ground.details()])} | form
        return (session or self.hospital.http).post(f"{self.ground.issuer}/oauth/token", data=form, timeout=30)

    def refused(self, what, assertion, **form):
        answer = self.send(assertion, **form)
        self.tried.line(f"assertion, {what}", answer.status_code in (400, 401), said(answer))

    def play(self):
        es, now = {"alg": "ES256", "kid": self.kid}, int(time.time())
        good = signed(self.claims(), self.key, es)
        answer = self.send(good)
        self.tried.line("assertion, as it should be", answer.status_code == 200, answer.status_code)
        self.refused("replayed", good)
        self.refused("its twin signature replayed", low_s_twin(good))
        for spelling in ("none", "None", "NONE", "nOnE"):
            self.refused(f"alg {spelling}, unsigned", by_hand({"alg": spelling, "kid": self.kid}, self.claims()))
            head, payload, signature = signed(self.claims(), self.key, es).split(".")
            self.refused(f"alg {spelling}, over a true signature", f"{b64(json.dumps({'alg': spelling}))}.{payload}.{signature}")
        public = self.key.export_public()
        pem = self.key.export_to_pem()
        for name, secret in (("our JWK", public.encode()), ("our PEM", pem), ("nothing", b""), ("a point", play.unb64(json.loads(public)["x"]))):
            self.refused(f"HS256 keyed with {name}", mac({"alg": "HS256", "kid": self.kid}, self.claims(), secret))
        own = jwk.JWK.generate(kty="EC", crv="P-256")
        mine = own.export_public(as_dict=True)
        for member, value in (("jwk", mine), ("jku", "https://127.0.0.1:1/jwks.json"), ("x5u", "https://127.0.0.1:1/x.pem"), ("x5c", ["MIIB"]),
                              ("kid", "../../dev/null"), ("kid", "' OR 1=1 --"), ("kid", ""), ("kid", self.kid)):
            self.refused(f"another key, {member} {str(value)[:24]}", signed(self.claims(), own, es | {member: value}))
        for member, value in (("crit", ["exp"]), ("b64", True), ("zip", "DEF")):
            self.refused(f"header {member}", by_hand(es | {member: value}, self.claims(), b"x" * 64))
        for what, changed in (
            ("exp passed", {"iat": now - 600, "exp": now - 300}), ("exp in the second before", {"exp": now - 1, "iat": now - 60}),
            ("exp an hour ahead", {"exp": now + 3600}), ("exp 301 s after iat", {"iat": now, "exp": now + 301}), ("no exp", {"exp": ...}), ("no iat", {"iat": ...}), ("no jti", {"jti": ...}),
            ("nbf to come", {"nbf": now + 300}), ("iat to come", {"iat": now + 120, "exp": now + 180}), ("exp as text", {"exp": str(now + 60)}), ("nbf as text", {"nbf": str(now - 5)}),
            ("exp as a fraction", {"exp": now + 60.5}), ("exp null", {"exp": None}), ("exp huge", {"exp": 2**63}), ("exp beyond 64 bits", {"exp": 2**70}), ("exp negative", {"exp": -1}),
            ("aud of another", {"aud": "https://other.example"}), ("aud a prefix", {"aud": self.ground.issuer[:-1]}), ("aud with a tail", {"aud": f"{self.ground.issuer}.evil.example"}),
            ("aud two", {"aud": [self.ground.issuer, "https://other.example"]}), ("no aud", {"aud": ...}), ("aud empty list", {"aud": []}),
            ("iss of another", {"iss": "RM3"}), ("sub of another", {"sub": "RM3"}), ("jti empty", {"jti": ""}), ("jti 300 letters", {"jti": "x" * 300}), ("jti a number", {"jti": 7}),
        ):
            self.refused(what, signed(self.claims(**changed), self.key, es))
        for member in ("aud", "exp", "sub"):
            text = json.dumps(self.claims())
            twice = text[:-1] + f', "{member}": {json.dumps(self.claims()[member])}}}'
            self.refused(f"{member} twice", signed(None, self.key, es, raw=twice))
        whole = signed(self.claims(), self.key, es)
        head, payload, signature = whole.split(".")
        for what, text in (("signature cut", whole[:-4]), ("signature empty", f"{head}.{payload}."), ("two parts", f"{head}.{payload}"), ("four parts", f"{whole}.x"),
                           ("zero signature", f"{head}.{payload}.{b64(bytes(64))}"), ("padding", f"{whole}=="), ("space inside", f"{head} .{payload}.{signature}"), ("16 KiB", whole + "A" * 16384),
                           ("as JSON", json.dumps({"protected": head, "payload": payload, "signature": signature})), ("DER signature", by_hand(json.dumps(es), json.dumps(self.claims()), b"0E\x02!" + bytes(66)))):
            self.refused(what, text)
        other = self.ground.party("hospital-b")
        theirs = jwk.JWK(**other.key("sign.jwk"))
        self.refused("signed by another hospital", signed(self.claims(), theirs, {"alg": "ES256"}))
        answer = self.send(signed(self.claims(), self.key, es), session=other.http)
        self.tried.line("assertion, stolen, over another certificate", answer.status_code in (400, 401), said(answer))
        self.refused("client_id of another", signed(self.claims(), self.key, es), client_id="RM3")
        self.refused("client_assertion_type of SAML", signed(self.claims(), self.key, es), client_assertion_type="urn:ietf:params:oauth:client-assertion-type:saml2-bearer")
        self.refused("an access token in its place", self.hospital.token(self.ground.details()))


class AccessTokens:
    def __init__(self, ground, tried):
        self.ground, self.tried = ground, tried
        self.hospital = ground.party("hospital-a")
        self.token = self.hospital.token(ground.details())
        self.path = "/fhir/Observation?patient=9990000018"

    def get(self, header, path=None, session=None):
        headers = {} if header is None else {"Authorization": header}
        return (session or self.hospital.http).get(self.ground.url + (path or self.path), headers=headers, timeout=30)

    def refused(self, what, token, scheme="Bearer", **where):
        answer = self.get(f"{scheme} {token}", **where)
        self.tried.line(f"token, {what}", answer.status_code == 401, said(answer))

    def play(self):
        good = self.get(f"Bearer {self.token}")
        self.tried.line("token, as it should be", good.status_code == 200, good.status_code)
        head, payload, signature = self.token.split(".")
        header, claims = play.head(self.token), json.loads(play.unb64(payload))
        keys = self.hospital.http.get(f"{self.ground.url}/.well-known/jwks.json", timeout=30).json()["keys"]
        own = jwk.JWK.generate(kty="EC", crv="P-256")
        now = int(time.time())
        for spelling in ("none", "None", "NONE", "nOnE"):
            self.refused(f"alg {spelling}", by_hand(header | {"alg": spelling}, claims))
            self.refused(f"alg {spelling}, true signature", f"{b64(json.dumps(header | {'alg': spelling}))}.{payload}.{signature}")
        for key in keys:
            secret = jwk.JWK(**key)
            self.refused(f"HS256 keyed with published {key['kid'][:6]}", mac(header | {"alg": "HS256", "kid": key["kid"]}, claims, secret.export_public().encode()))
            self.refused(f"HS256 keyed with its PEM {key['kid'][:6]}", mac(header | {"alg": "HS256", "kid": key["kid"]}, claims, secret.export_to_pem()))
        self.refused("HS256 keyed with nothing", mac(header | {"alg": "HS256"}, claims, b""))
        self.refused("by our own key, our kid", signed(claims, own, header))
        for member, value in (("jwk", own.export_public(as_dict=True)), ("jku", "https://127.0.0.1:1/j"), ("x5u", "https://127.0.0.1:1/x"), ("x5c", ["MIIB"]), ("kid", "../../dev/null"), ("kid", keys[-1]["kid"])):
            self.refused(f"by our own key, {member}", signed(claims, own, header | {member: value}))
        for what, changed in (("another patient", {"authorization_details": [self.ground.details(OTHER)]}), ("a longer life", {"exp": now + 9000}), ("another certificate's thumbprint", {"cnf": {"x5t#S256": b64(bytes(32))}}), ("no cnf", {"cnf": {}})):
            self.refused(f"payload of {what} under the true signature", f"{head}.{b64(json.dumps(claims | changed))}.{signature}")
        for at in (0, 31, 32, 63):
            flipped = bytearray(play.unb64(signature))
            flipped[at] ^= 1
            self.refused(f"signature byte {at} flipped", f"{head}.{payload}.{b64(bytes(flipped))}")
        self.refused("zero signature", f"{head}.{payload}.{b64(bytes(64))}")
        self.refused("signature cut", self.token[:-4])
        self.refused("typ JWT", f"{b64(json.dumps(header | {'typ': 'JWT'}))}.{payload}.{signature}")
        self.refused("16 KiB", self.token + "A" * 16384)
        other = self.ground.party("hospital-b")
        self.refused("over another hospital's certificate", self.token, session=other.http)
        self.refused("over the practice's certificate", self.token, session=self.ground.party("practice-a").http)
        self.refused("as DPoP, for a bearer", self.token, scheme="DPoP")
        self.refused("as MAC", self.token, scheme="MAC")
        self.refused("a client assertion in its place", self.hospital.library.sign({"iss": "RJ1", "exp": now + 60}, self.hospital.key("sign.jwk")))
        for what, header_value in (("no Authorization", None), ("Bearer alone", "Bearer"), ("Bearer, two spaces", f"Bearer  {self.token}"), ("tab for space", f"Bearer\t{self.token}"), ("Basic", "Basic " + b64("RJ1:x"))):
            answer = self.get(header_value)
            self.tried.line(f"token, {what}", answer.status_code == 401, said(answer))
        answer = self.get(None, path=f"{self.path}&access_token={self.token}")
        self.tried.line("token, in the query", answer.status_code == 401, said(answer))
        request = f"GET {self.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {self.token}\r\nAuthorization: Bearer x\r\n\r\n"
        status, _, body = self.ground.raw(request.encode())
        self.tried.line("token, two Authorization headers", status == 401, status)
        # An unsigned JWT, as GP Connect consumers send it.
        spine = by_hand({"alg": "none", "typ": "JWT"}, {"iss": "https://consumer.example", "sub": "1", "aud": self.ground.url, "exp": now + 300, "iat": now,
                        "reason_for_request": "directcare", "requested_scope": "patient/*.read"})
        self.refused("GP Connect's unsigned JWT", spine)
        answer = self.get(f"Bearer {self.token}", path="/fhir/Patient/" + OTHER + "/$everything")
        self.tried.line("token, for another patient's path", answer.status_code == 403, said(answer))
        for path in ("/agreements", "/practices/A81001", "/feed/objections/status", "/history"):
            answer = self.get(f"Bearer {self.token}", path=path)
            self.tried.line(f"token of records, at {path}", answer.status_code == 403, said(answer))
        form = {"client_assertion_type": play.ASSERTION_TYPE, "token": self.token}
        claims = {"iss": "RJ1", "sub": "RJ1", "aud": self.ground.issuer, "jti": str(uuid.uuid4()), "iat": now, "exp": now + 60}
        assertion = self.hospital.library.sign(claims, self.hospital.key("sign.jwk"))
        answer = self.hospital.http.post(f"{self.ground.issuer}/oauth/revoke", data=form | {"client_assertion": assertion}, timeout=30)
        self.tried.line("revoke", answer.status_code == 200, answer.status_code)
        self.refused("revoked", self.token)


def main(folder):
    ground, tried = Ground(folder), Tried("tokens")
    Assertions(ground, tried).play()
    AccessTokens(ground, tried).play()
    return tried.end(ground)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
