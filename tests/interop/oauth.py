#!/usr/bin/env python3
"""Authlib's own OAuth client, as it comes, against a `sallyport dev` world: python3 oauth.py DIR

It sends `aud` = the token endpoint, no `kid`, and an assertion of an hour. The hour is refused in words that name the
limit; told of the limit, it gets its token and reads with it, and a decision against it reaches it as its own error.
"""
import json, pathlib, sys, time

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey

import play


def session(hospital, **more):
    key = ECKey.import_key(hospital.key("sign.jwk"))
    out = OAuth2Session(hospital.client, key, token_endpoint_auth_method="private_key_jwt")
    out.trust_env, out.verify, out.cert = False, hospital.http.verify, hospital.http.cert
    out.register_client_auth_method(PrivateKeyJWT(alg="ES256", **more))
    return out


def token(oauth, hospital, details):
    url = f"{hospital.world['issuer']}/oauth/token"
    return oauth.fetch_token(url, grant_type="client_credentials", authorization_details=json.dumps([details]))


def refused(oauth, hospital, details):
    try:
        token(oauth, hospital, details)
    except OAuthError as error:
        return error
    raise SystemExit("FAIL a token was given out")


class Lent(play.Hospital):
    """A hospital whose tokens Authlib gets."""

    def token(self, details):
        oauth = session(self, claims={"exp": int(time.time()) + 60})
        return token(oauth, self, details)["access_token"]


def main(folder):
    hospital = Lent(play.Joserfc(), pathlib.Path(folder), "hospital-a")
    asks = {ask["name"]: ask for ask in hospital.world["asks"]}
    details = asks["permitted"]["authorization_details"]
    hour = refused(session(hospital), hospital, details)
    assert hour.error == "invalid_client" and "at most 300 seconds after iat" in hour.description, hour
    print(f"ok   authlib, its default of an hour: {hour.description}")
    no = refused(session(hospital, claims={"exp": int(time.time()) + 60}), hospital, asks["wrong-purpose"]["authorization_details"])
    assert (no.error, no.description) == ("access_denied", "not permitted"), no
    print("ok   authlib: wrong-purpose: refused as access_denied")
    for ask in asks.values():
        if ask["client"] == "hospital-a" and ask["expect"] == "permit" and ask.get("path"):
            print(f"ok   authlib: {ask['name']}: {len(hospital.open(ask))} opened")


if __name__ == "__main__":
    main(*sys.argv[1:])
