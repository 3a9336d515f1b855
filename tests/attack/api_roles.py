"""Who schemathesis is, operation by operation: loaded by it, started by api.py.

Each operation is played by a party of a `sallyport dev` world that may do it, so that not every answer is a refusal.
WORLD names the world's folder. With TOKENS=none nobody has a token.
"""
import atexit, collections, os, pathlib, sys, threading, time

import schemathesis
from hypothesis import strategies

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "interop"))
import play

FOLDER = pathlib.Path(os.environ["WORLD"])
PATIENT, PRACTICE, HOSPITAL = "9990000018", "A81001", "RJ1"
READ = {"type": "patient_record", "patient": PATIENT, "purpose": "TREAT", "practitioner": {"id": "dr-okafor"},
        "relationship": {"type": "referral", "reference": "UBRN-0000-0018"}}

# The party that plays an operation, and what its token is for.
ROLES = {
    "search": ("hospital-a", READ), "read": ("hospital-a", READ), "everything": ("hospital-a", READ),
    "deposit": ("practice-a", {"type": "deposit", "practice": PRACTICE}), "put": ("practice-a", {"type": "deposit", "practice": PRACTICE}),
    "withdraw": ("practice-a", {"type": "deposit", "practice": PRACTICE}),
    "accept": ("hospital-a", {"type": "agreement", "organisation": HOSPITAL}),
    "history": ("patient-portal", {"type": "history", "patient": PATIENT, "for": "self", "born": "1980-02-29"}),
    "notices": ("patient-portal", None), "bodies": ("auditor", None), "tile": ("auditor", None),
}
BY_TAG = {
    "agreements": ("practice-a", {"type": "agreement", "practice": PRACTICE}), "objections": ("practice-a", {"type": "objections", "practice": PRACTICE}),
    "oversight": ("privacy-officer", None), "administration": ("admin-1", None),
}


def role(operation):
    named = operation.definition.raw.get("operationId")
    tag = operation.definition.raw["tags"][0]
    return ROLES.get(named) or BY_TAG.get(tag) or ("hospital-a", None)


@schemathesis.auth(refresh_interval=None)
class Token:
    """One token for each errand, and a new one every other second: the run turns and retires signing keys meanwhile."""
    tokens, lock = {}, threading.Lock()

    def get(self, case, context):
        party, details = role(context.operation)
        if details is None or os.environ.get("TOKENS") == "none":
            return None
        key = (party, str(details))
        with self.lock:
            made, token = self.tokens.get(key, (0, None))
            if time.time() - made > 2:
                try:
                    token = play.Hospital(play.Jwcrypto(), FOLDER, party).token(details)
                except AssertionError:
                    pass  # what was made up so far may have stopped this party: its old token is as good as any
                self.tokens[key] = (time.time(), token)
        return token

    def set(self, case, data, context):
        if data:
            case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def before_call(context, case, kwargs):
    party, _ = role(case.operation)
    own = FOLDER / "clients" / party
    kwargs["cert"] = (str(own / "cert.pem"), str(own / "key.pem"))


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


ANSWERS = collections.defaultdict(collections.Counter)


@schemathesis.hook
def after_call(context, case, response):
    ANSWERS[case.operation.definition.raw.get("operationId")][response.status_code] += 1


@atexit.register
def told():
    """What came back, so that a run in which everything was refused does not look like one that found nothing."""
    served = sorted(name for name, codes in ANSWERS.items() if any(200 <= code < 300 for code in codes))
    codes = sum(ANSWERS.values(), collections.Counter())
    print(f"answers: {' '.join(f'{code}:{count}' for code, count in sorted(codes.items()))}")
    never = [f"{name} ({' '.join(map(str, sorted(ANSWERS[name])))})" for name in sorted(set(ANSWERS) - set(served))]
    print(f"{len(served)} of {len(ANSWERS)} operations did what was asked at least once; never: {', '.join(never)}", flush=True)


def number(digits):
    """Nine digits and their check digit, or none where it would be ten."""
    check = (11 - sum(int(d) * w for d, w in zip(digits, range(10, 1, -1))) % 11) % 11
    return None if check == 10 else f"{digits}{check}"


def nhs_numbers():
    made = strategies.from_regex(r"\A999[0-9]{6}\Z").map(number).filter(bool)
    return strategies.one_of(strategies.just(PATIENT), made)


schemathesis.openapi.format("nhs-number", nhs_numbers())
