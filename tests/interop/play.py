#!/usr/bin/env python3
"""Plays a `sallyport dev` world as a hospital would, with one JOSE library at a time.

    python3 play.py LIBRARY DIR      LIBRARY: jwcrypto joserfc authlib josec      DIR: `sallyport dev --data DIR`

A library signs the client assertion, opens the ticket (JWE around JWS) and a record, and verifies the deposit
signature. What no library does is done here in plain sight: the checks that ../../README.md asks of a receiver.
"""
import base64, hashlib, hmac, json, pathlib, subprocess, sys, tempfile, time, uuid, warnings

import requests

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def head(compact):
    return json.loads(unb64(compact.split(".")[0]))


# One class a library: sign(claims, private JWK), decrypt(JWE, JWK), verify(JWS, public JWK). Algorithms are pinned.
class Jwcrypto:
    def __init__(self):
        from jwcrypto import jwe, jwk, jws
        self.jwe, self.jwk, self.jws = jwe, jwk, jws

    def sign(self, claims, key):
        out = self.jws.JWS(json.dumps(claims))
        out.add_signature(self.jwk.JWK(**key), "ES256", json.dumps({"alg": "ES256", "kid": key["kid"]}))
        return out.serialize(compact=True)

    def decrypt(self, text, key):
        out = self.jwe.JWE(algs=["ECDH-ES+A256KW", "dir", "A256GCM"])
        out.deserialize(text, key=self.jwk.JWK(**key))
        return out.payload

    def verify(self, text, key):
        out = self.jws.JWS()
        out.allowed_algs = ["ES256"]
        out.deserialize(text, key=self.jwk.JWK(**key))
        return out.payload


class Joserfc:
    # joserfc stops at 64 KiB of ciphertext unless it is told otherwise; records may be larger.
    def __init__(self):
        from joserfc import jwe, jwk, jws
        self.jwe, self.jwk, self.jws = jwe, jwk, jws
        self.registry = jwe.JWERegistry(algorithms=["ECDH-ES+A256KW", "dir", "A256GCM"])
        self.registry.max_ciphertext_length = 32 << 20

    def sign(self, claims, key):
        header = {"alg": "ES256", "kid": key["kid"]}
        return self.jws.serialize_compact(header, json.dumps(claims).encode(), self.jwk.import_key(key))

    def decrypt(self, text, key):
        return self.jwe.decrypt_compact(text, self.jwk.import_key(key), registry=self.registry).plaintext

    def verify(self, text, key):
        return self.jws.deserialize_compact(text, self.jwk.import_key(key), algorithms=["ES256"]).payload


class Authlib:
    def __init__(self):
        warnings.showwarning = lambda *_, **__: None  # it points at joserfc, its successor
        from authlib.jose import JsonWebEncryption, JsonWebKey, JsonWebSignature
        self.key = JsonWebKey.import_key
        self.jwe, self.jws = JsonWebEncryption(), JsonWebSignature(algorithms=["ES256"])

    def sign(self, claims, key):
        header = {"alg": "ES256", "kid": key["kid"]}
        return self.jws.serialize_compact(header, json.dumps(claims).encode(), self.key(key)).decode()

    def decrypt(self, text, key):
        # It looks a direct key up by its bytes, and knows no "oct" JWK here.
        return self.jwe.deserialize_compact(text, unb64(key["k"]) if key["kty"] == "oct" else self.key(key))["payload"]

    def verify(self, text, key):
        return self.jws.deserialize_compact(text, self.key(key))["payload"]


class Josec:
    """José C: `jose` on the command line."""

    def run(self, *arguments, **files):
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (pathlib.Path(folder) / name).write_text(content)
            done = subprocess.run(["jose", *arguments], cwd=folder, capture_output=True, check=True)
            return done.stdout

    def sign(self, claims, key):
        template = json.dumps({"protected": {"alg": "ES256", "kid": key["kid"]}})
        return self.run("jws", "sig", "-I", "claims", "-k", "key", "-s", template, "-c",
                        claims=json.dumps(claims), key=json.dumps(key)).decode().strip()

    def decrypt(self, text, key):
        key = key | {"alg": head(text)["alg"] if key["kty"] == "EC" else "A256GCM"}
        return self.run("jwe", "dec", "-i", "text", "-k", "key", text=text, key=json.dumps(key))

    def verify(self, text, key):
        return self.run("jws", "ver", "-i", "text", "-k", "key", "-O", "-", text=text, key=json.dumps(key))


class Hospital:
    def __init__(self, library, folder, name):
        self.library, self.folder, self.own = library, folder, folder / "clients" / name
        self.world = json.loads((folder / "world.json").read_text())
        self.client = next(o["client_id"] for o in self.world["organisations"] if o["name"] == name)
        self.http = requests.Session()
        self.http.trust_env = False  # REQUESTS_CA_BUNDLE would win over our CA
        self.http.verify = str(folder / "ca.pem")
        self.http.cert = (str(self.own / "cert.pem"), str(self.own / "key.pem"))

    def key(self, name):
        return json.loads((self.own / name).read_text())

    def token(self, details):
        now, issuer = int(time.time()), self.world["issuer"]
        claims = {"iss": self.client, "sub": self.client, "aud": issuer, "jti": str(uuid.uuid4()), "iat": now, "exp": now + 60}
        answer = self.http.post(f"{issuer}/oauth/token", timeout=30, data={
            "grant_type": "client_credentials", "client_id": self.client, "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.library.sign(claims, self.key("sign.jwk")),
            "authorization_details": json.dumps([details])})
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def read(self, ask):
        bearer = {"Authorization": f"Bearer {self.token(ask['authorization_details'])}"}
        answer = self.http.get(self.world["url"] + ask["path"], headers=bearer, timeout=30)
        assert answer.status_code == 200, answer.text
        first, *records, end = map(json.loads, answer.text.splitlines())
        assert end["end"]["records"] == len(records) > 0, "cut short"
        return first, records

    def open(self, ask):
        first, records = self.read(ask)
        keys = {key["kid"]: key for key in self.http.get(f"{self.world['url']}/.well-known/jwks.json", timeout=30).json()["keys"]}
        signed = self.library.decrypt(first["ticket"], self.key("open.jwk")).decode()
        ticket = json.loads(self.library.verify(signed, keys[head(signed)["kid"]]))
        leaf = hashlib.sha256(b"\0" + first["receipt"]["leaf"].encode()).digest()
        assert ticket["iss"] == self.world["issuer"] and ticket["aud"] == self.client and ticket["exp"] > time.time()
        assert unb64(ticket["leaf"]) == leaf, "the ticket names another entry of the log"
        deks = {key["kid"]: key for key in ticket["keys"]}
        assert len(deks) == len(records), "one key a record"
        patient = ask["authorization_details"]["patient"]
        return [self.record(line, deks, keys, patient) for line in records]

    def record(self, line, deks, keys, patient):
        text, kid = line["record"], head(line["record"])["kid"]
        dek = unb64(deks[kid]["k"])
        commit = lambda label, what: hmac.new(dek, label + b"\0" + what.encode(), "sha256").digest()
        said = json.loads(self.library.verify(line["signature"], keys[head(line["signature"])["kid"]]))
        assert said["kid"] == kid and unb64(said["h"]) == hashlib.sha256(text.encode()).digest(), "deposit signature"
        assert unb64(said["kc"]) == commit(b"sallyport/kc/v1", kid), "the key is not the one it was sealed under"
        assert unb64(said["pc"]) == commit(b"sallyport/patient/v1", patient), "another patient's record"
        return self.library.decrypt(text, {name: deks[kid][name] for name in ("kty", "k")})


def main(name, folder):
    library = {"jwcrypto": Jwcrypto, "joserfc": Joserfc, "authlib": Authlib, "josec": Josec}[name]()
    hospital = Hospital(library, pathlib.Path(folder), "hospital-a")
    for ask in hospital.world["asks"]:
        if ask["client"] == "hospital-a" and ask["expect"] == "permit" and ask.get("path"):
            opened = hospital.open(ask)
            types = sorted({json.loads(text)["resourceType"] for text in opened})
            print(f"ok   {name}: {ask['name']}: {len(opened)} opened: {', '.join(types)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
