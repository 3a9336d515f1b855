#!/usr/bin/env python3
"""Schemathesis against a `sallyport dev` world, by the description that the gateway itself serves.

    api.py ST DIR [--seconds N] [--seed N]     ST: schemathesis' command     DIR: `sallyport dev --data DIR`

Once with tokens that are valid, each operation played by a party that may do it, and once with none. Nothing may answer
5xx, with a status, type, header or shape that the description does not have, take what the description forbids, or do
without a token what wants one. Exits 0 if nothing of it was found.
"""
import argparse, json, os, pathlib, subprocess, sys

# A search takes few of the texts that its parameters' shapes allow, a Bundle few of the objects: they are FHIR's to say.
LOOSE = ["positive_data_acceptance"]


def play(st, folder, seconds, seed, tokens):
    url = json.loads((folder / "world.json").read_text())["url"]
    own = folder / "clients" / "hospital-a"
    command = [
        st, "--config-file", str(pathlib.Path(__file__).with_name("schemathesis.toml")), "run", f"{url}/openapi.json",
        "--tls-verify", str(folder / "ca.pem"), "--request-cert", str(own / "cert.pem"), "--request-cert-key", str(own / "key.pem"),
        "--phases", "examples,coverage,fuzzing", "--max-time", str(seconds), "--seed", str(seed), "--exclude-checks", ",".join(LOOSE),
        "--request-timeout", "30", "--no-color", "--warnings", "off", "--generation-database", "none", "--continue-on-failure",
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "api_roles", "PYTHONPATH": str(pathlib.Path(__file__).parent), "WORLD": str(folder), "TOKENS": tokens}
    print(f"-- tokens: {tokens}", flush=True)
    # Why there: it leaves a folder of its own where it runs.
    return subprocess.run(command, cwd=folder, env=os.environ | hooks, check=False).returncode


def main():
    say = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    say.add_argument("st")
    say.add_argument("folder", type=pathlib.Path)
    say.add_argument("--seconds", type=int, default=60)
    say.add_argument("--seed", type=int, default=20261122)
    asked = say.parse_args()
    codes = [play(asked.st, asked.folder.resolve(), asked.seconds, asked.seed, tokens) for tokens in ("valid", "none")]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
