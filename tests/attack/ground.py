"""What the attacks share: a `sallyport dev` world, its parties, raw requests, and the list of what was tried."""
import base64, json, pathlib, socket, ssl, subprocess, sys, time, uuid

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "interop"))
import play

PATIENT, OTHER, NOBODY = "9990000018", "9990000026", "9990999988"
PRACTICE = "A81001"


def b64(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else data.encode()).rstrip(b"=").decode()


class Ground:
    """A world that somebody else serves; parties in it, each with its own certificate."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.world = json.loads((self.folder / "world.json").read_text())
        self.url, self.issuer = self.world["url"], self.world["issuer"]
        self.host, port = self.url.removeprefix("https://").split(":")
        self.port = int(port)
        patients = [patient["nhs_number"] for patient in self.world["patients"]]
        self.others = [number for number in patients if number != PATIENT]

    def party(self, name):
        return play.Hospital(play.Jwcrypto(), self.folder, name)

    def details(self, patient=PATIENT, **more):
        referral = f"UBRN-0000-{patient[-4:]}"
        return {"type": "patient_record", "patient": patient, "purpose": "TREAT", "practitioner": {"id": "dr-okafor"},
                "relationship": {"type": "referral", "reference": referral}} | more

    def tls(self, name="hospital-a", alpn="http/1.1"):
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        own = self.folder / "clients" / name
        context.load_cert_chain(str(own / "cert.pem"), str(own / "key.pem"))
        context.set_alpn_protocols([alpn])
        return context.wrap_socket(socket.create_connection((self.host, self.port), 10), server_hostname=self.host)

    def raw(self, data, name="hospital-a"):
        """One HTTP/1.1 exchange, byte by byte as given. -> status (0: cut off without an answer), head, body"""
        answer = b""
        with self.tls(name) as one:
            one.settimeout(10)
            try:
                one.sendall(data)
                while chunk := one.recv(65536):
                    answer += chunk
            except (OSError, ssl.SSLError):
                pass
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1]) if head.startswith(b"HTTP/1.1 ") else 0
        return status, head, body

    def lives(self):
        """Whether an honest hospital is still served."""
        hospital = self.party("hospital-a")
        ask = next(ask for ask in self.world["asks"] if ask["name"] == "permitted")
        return len(hospital.open(ask)) > 0


class Tried:
    """A line for each attack: what was tried and what came back."""

    def __init__(self, family):
        self.family, self.held, self.failed = family, 0, 0

    def line(self, what, holds, came):
        self.held, self.failed = self.held + bool(holds), self.failed + (not holds)
        print(f"{'ok  ' if holds else 'FAIL'} {self.family}: {what}: {came}", flush=True)

    def end(self, ground=None):
        if ground is not None:
            self.line("an honest hospital afterwards", ground.lives(), "is served")
        print(f"{self.family}: {self.held} held, {self.failed} did not", flush=True)
        return 0 if self.failed == 0 and self.held else 1


def said(answer):
    """Status and the words of a refusal."""
    try:
        value = answer.json()
        text = value.get("error_description") or value["issue"][0]["details"]["text"]
    except (ValueError, KeyError, IndexError, AttributeError):
        text = answer.text[:80]
    return f"{answer.status_code} {text[:100]}"
