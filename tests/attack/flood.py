#!/usr/bin/env python3
"""A gateway under idle connections and under attack, measured: python3 flood.py SALLYPORT [--idle N] [--seconds S] [NAME ...]

It starts a `dev` world of its own, lets a CA of its own in (its clients are strangers with certificates), and does each
thing in turn on loopback. Meanwhile a hospital opens a connection four times a second, gets a token and reads. Exit 0 only
if the gateway's memory stayed within each bound and every honest read was served. Needs ../requirements.txt.
"""
import argparse, base64, datetime, ipaddress, json, os, pathlib, resource, select, shutil, signal, socket, ssl, struct
import subprocess, sys, tempfile, threading, time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "interop"))
import play

MIB = 1 << 20


# --- the gateway -------------------------------------------------------------------------------------------------

class Gateway:
    """A `dev` world, served by a process of its own."""

    def __init__(self, program, folder, certificates):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.program, self.folder = program, folder
        self.start()
        self.stop()
        own = folder / "strangers"
        own.mkdir()
        ca = strangers(own, certificates)
        with (folder / "ca.pem").open("a") as roots:
            roots.write(ca)
        self.certificates = [own / f"{n}.pem" for n in range(certificates)]
        self.start()

    def start(self):
        command = [self.program, "dev", "--data", str(self.folder), "--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.time() + 60
        while True:
            assert self.process.poll() is None and time.time() < until, "the world did not start"
            try:
                if (self.folder / "world.json").exists():
                    self.tcp().close()
                    return
            except OSError:
                pass
            time.sleep(0.1)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, "it did not stop cleanly"

    def rss(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def context(self, certificate, alpn):
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        context.load_cert_chain(str(certificate))
        context.set_alpn_protocols([alpn])
        return context

    def tcp(self):
        """Attacks come from an address of their own, and the hospital from another."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20, source_address=("127.0.0.2", 0))

    def tls(self, context):
        return context.wrap_socket(self.tcp(), server_hostname="127.0.0.1")


def strangers(folder, count):
    """Makes a CA and so many clients, each with its key in one file. -> the CA's PEM"""
    now = datetime.datetime.now(datetime.timezone.utc)
    named = lambda name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ca_key = ec.generate_private_key(ec.SECP256R1())

    def certificate(name, key, is_ca):
        made = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named("strangers")).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        made = made.not_valid_after(now + datetime.timedelta(days=1)).add_extension(x509.BasicConstraints(is_ca, None), True)
        return made.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    for n in range(count):
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{n}.pem").write_bytes(certificate(f"stranger {n}", key, False) + pem)
    return certificate("strangers", ca_key, True).decode()


class Honest(threading.Thread):
    """A hospital that connects, gets a token and reads, four times a second, and is timed."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.folder, self.times, self.failed, self.over = gateway.folder, [], [], threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.25):
            began = time.time()
            try:
                hospital = play.Hospital(play.Jwcrypto(), self.folder, "hospital-a")
                ask = next(ask for ask in hospital.world["asks"] if ask["name"] == "permitted")
                hospital.open(ask)
                hospital.http.close()
                self.times.append(time.time() - began)
            except Exception as error:
                self.failed.append(f"{type(error).__name__}: {str(error)[:120]}")

    def end(self):
        self.over.set()
        self.join(90)
        return self


class Watch(threading.Thread):
    """The gateway's memory, ten times a second."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.gateway, self.peak, self.files, self.over = gateway, 0, 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.1):
            self.peak = max(self.peak, self.gateway.rss())
            self.files = max(self.files, self.gateway.open_files())

    def end(self):
        self.over.set()
        self.join()
        return self


# --- HTTP/2 by hand ----------------------------------------------------------------------------------------------

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST, SETTINGS, PING, CONTINUATION = 1, 3, 4, 6, 9


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def get(stream, path, flags=5):
    text = lambda index, value: bytes([index, len(value)]) + value
    return frame(HEADERS, flags, stream, b"\x82\x87" + text(4, path) + text(1, b"127.0.0.1"))


def answers(data):
    """What must be said to these frames so that the connection lives: pings and settings are acknowledged."""
    out = b""
    while len(data) >= 9:
        length, kind, flags = int.from_bytes(data[:3], "big"), data[3], data[4]
        payload, data = data[9:9 + length], data[9 + length:]
        if kind == PING and not flags & 1:
            out += frame(PING, 1, 0, payload)
        elif kind == SETTINGS and not flags & 1:
            out += frame(SETTINGS, 1, 0)
    return out


# --- what is done to it ------------------------------------------------------------------------------------------

def many(threads, until, job):
    """Does it over and over in so many threads; a connection that is refused or cut is what is wanted."""
    counts = [0] * threads

    def work(n):
        while time.time() < until:
            try:
                job(n)
            except (OSError, ValueError):
                pass
            counts[n] += 1

    workers = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return sum(counts)


def held(gateway, until, count, opened, step, every=1.0):
    """Holds `count` connections at once, each made by `opened` and touched by `step`; those that were cut are made anew."""
    alive, made, sockets = [None] * count, 0, range(count)
    while time.time() < until:
        began = time.time()
        for n in sockets:
            if time.time() >= until:
                break
            try:
                if alive[n] is None:
                    alive[n], made = opened(n), made + 1
                else:
                    step(alive[n])
            except (OSError, ValueError):
                if alive[n] is not None:
                    alive[n].close()
                alive[n] = None
        time.sleep(max(0.0, every - (time.time() - began)))
    for one in alive:
        if one is not None:
            one.close()
    return made


def garbage(gateway, until):
    def job(_):
        with gateway.tcp() as one:
            one.sendall(os.urandom(600))
            one.settimeout(1)
            while one.recv(4096):
                pass
    return many(8, until, job)


def half_open(gateway, until):
    """More silent connections than there are places for handshakes, each made anew as soon as it is cut."""
    def step(one):
        one.setblocking(False)
        try:
            if not one.recv(1):
                raise OSError("cut")
        except BlockingIOError:
            pass
    return held(gateway, until, 6000, lambda _: gateway.tcp(), step)


def stalled_hello(gateway, until):
    """A whole ClientHello, and nothing after it: the gateway has done its part of the handshake and waits."""
    context = gateway.context(gateway.certificates[0], "h2")
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = context.wrap_bio(into, out, server_hostname="127.0.0.1")
    try:
        hello.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello, kept = out.read(), [[] for _ in range(4)]

    def job(n):
        one = gateway.tcp()
        one.sendall(hello)
        kept[n].append(one)
        if len(kept[n]) > 2000:
            kept[n].pop(0).close()
    made = many(4, until, job)
    for one in sum(kept, []):
        one.close()
    return made


def slow_head(gateway, until):
    contexts = [gateway.context(certificate, "http/1.1") for certificate in gateway.certificates]

    def opened(n):
        one = gateway.tls(contexts[n % len(contexts)])
        one.sendall(b"GET /fhir/metadata HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        return one
    return held(gateway, until, 400, opened, lambda one: one.sendall(b"x"))


def slow_body(gateway, until):
    """Deposits of 16 MiB by a registered practice, of which a byte comes a second once most of it is there."""
    practice = play.Hospital(play.Jwcrypto(), gateway.folder, "practice-a")
    details = {"type": "deposit", "practice": practice.client, "patient": practice.world["patients"][0]["nhs_number"]}
    token, own = practice.token(details), gateway.folder / "clients/practice-a"
    context = ssl.create_default_context(cafile=str(gateway.folder / "ca.pem"))
    context.load_cert_chain(str(own / "cert.pem"), str(own / "key.pem"))

    def opened(_):
        one = gateway.tls(context)
        head = f"PUT /fhir/Observation/slow HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        one.sendall(f"{head}Content-Type: application/fhir+json; fhirVersion=4.0\r\nContent-Length: {16 * MIB}\r\n\r\n".encode())
        one.settimeout(0.2)
        try:
            one.sendall(b" " * (15 * MIB))
        except TimeoutError:
            pass  # it takes no more than it has room for
        return one
    return held(gateway, until, 64, opened, lambda one: one.send(b" "))


def rapid_reset(gateway, until):
    """CVE-2023-44487: streams that are opened and reset in one breath."""
    contexts = [gateway.context(certificate, "h2") for certificate in gateway.certificates]

    def job(n):
        with gateway.tls(contexts[n % len(contexts)]) as one:
            one.sendall(PREFACE + frame(SETTINGS, 0, 0))
            for batch in range(200):
                streams = range(1 + batch * 200, 1 + batch * 200 + 200, 2)
                one.sendall(b"".join(get(s, b"/fhir/metadata") + frame(RST, 0, s, b"\0\0\0\x08") for s in streams))
    return many(4, until, job)


def head_flood(gateway, until):
    """Heads without an end: CONTINUATION frames (CVE-2024-27316), and a megabyte of HTTP/1.1 header lines."""
    contexts = [gateway.context(certificate, alpn) for certificate in gateway.certificates for alpn in ("h2", "http/1.1")]

    def job(n):
        with gateway.tls(contexts[n % len(contexts)]) as one:
            if n % 2:
                one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(100_000)))
            else:
                one.sendall(PREFACE + frame(SETTINGS, 0, 0) + get(1, b"/", flags=1))
                for _ in range(10_000):
                    one.sendall(frame(CONTINUATION, 0, 1, b"\x00\x03abc\x7f" + bytes([0x80]) + b"z" * 255))
    return many(4, until, job)


def slow_read(gateway, until):
    """A registered hospital that asks for all it may and takes none of it."""
    hospital = play.Hospital(play.Jwcrypto(), gateway.folder, "hospital-b")
    ask = next((ask for ask in hospital.world["asks"] if ask["client"] == "hospital-b" and ask["expect"] == "permit" and ask.get("path")), None)
    if ask is None:
        hospital = play.Hospital(play.Jwcrypto(), gateway.folder, "hospital-a")
        ask = next(ask for ask in hospital.world["asks"] if ask["name"] == "permitted-everything")
    own, token = hospital.own, hospital.token(ask["authorization_details"])
    context = ssl.create_default_context(cafile=str(gateway.folder / "ca.pem"))
    context.load_cert_chain(str(own / "cert.pem"), str(own / "key.pem"))

    def opened(_):
        one = gateway.tls(context)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return one
    ask = f"GET {ask['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    return held(gateway, until, 100, opened, lambda one: one.sendall(ask))


# Each with how many MiB of memory it may cost.
ATTACKS = {
    "garbage": (garbage, 128), "half_open": (half_open, 256), "stalled_hello": (stalled_hello, 384), "slow_head": (slow_head, 128),
    "slow_body": (slow_body, 384), "rapid_reset": (rapid_reset, 128), "head_flood": (head_flood, 128), "slow_read": (slow_read, 256),
}


def idle(gateway, count, seconds):
    """Mutual-TLS connections that asked once and stay. -> whether they cost little and stay flat"""
    contexts = [gateway.context(certificate, "h2") for certificate in gateway.certificates]
    before, began, lock, open_ones = gateway.rss(), time.time(), threading.Lock(), {}
    poll = select.epoll()

    def opener(part):
        for n in part:
            one = gateway.tls(contexts[n % len(contexts)])
            one.sendall(PREFACE + frame(SETTINGS, 0, 0) + get(1, b"/fhir/metadata"))
            one.setblocking(False)
            with lock:
                open_ones[one.fileno()] = one
                poll.register(one.fileno(), select.EPOLLIN)

    def keep(until):
        lost = 0
        while time.time() < until:
            for fileno, _ in poll.poll(0.2):
                one = open_ones[fileno]
                try:
                    data = one.recv(65536)
                    if not data:
                        raise OSError("cut")
                    said = answers(data)
                    if said:
                        one.sendall(said)
                except (ssl.SSLWantReadError, BlockingIOError):
                    pass
                except OSError:
                    poll.unregister(fileno)
                    lost += 1
        return lost

    openers = [threading.Thread(target=opener, args=(range(n, count, 8),), daemon=True) for n in range(8)]
    for one in openers:
        one.start()
    lost = 0
    while any(one.is_alive() for one in openers):
        lost += keep(time.time() + 0.5)
    took = time.time() - began
    lost += keep(time.time() + 2)
    full = gateway.rss()
    honest = Honest(gateway)
    lost += keep(time.time() + seconds)
    honest.end()
    later, stay = gateway.rss(), len(open_ones) - lost
    for one in open_ones.values():
        one.close()
    time.sleep(2)
    each, grown = (full - before) / count, later - full
    print(f"{'idle':14} {count} connections in {took:.0f} s, {stay} still there after {seconds} s; memory {before / MIB:.0f} -> {full / MIB:.0f} MiB "
          f"({each / 1024:.1f} KiB each), {grown / MIB:+.1f} MiB while they stood, {gateway.rss() / MIB:.0f} MiB after; {told(honest)}", flush=True)
    return len(open_ones) == count and not lost and each < 96 * 1024 and grown < 64 * MIB and served(honest, seconds)


def told(honest):
    times = sorted(honest.times) or [0.0]
    return f"honest: {len(honest.times)} served, {len(honest.failed)} not, p50 {times[len(times) // 2]:.2f} s, worst {times[-1]:.2f} s {honest.failed[:1] or ''}"


def served(honest, seconds):
    """Nobody turned away, nobody left to wait: who has stalled handshakes ahead of him waits ten seconds for each batch."""
    return len(honest.times) >= max(1, seconds // 5) and max(honest.times) < 12 and not honest.failed


def attack(gateway, name, seconds):
    how, allowed = ATTACKS[name]
    before, watch, honest = gateway.rss(), Watch(gateway), Honest(gateway)
    done = how(gateway, time.time() + seconds)
    honest.end(), watch.end()
    cost = watch.peak - before
    print(f"{name:14} {done} in {seconds} s; memory {before / MIB:.0f} -> {watch.peak / MIB:.0f} MiB at most (allowed +{allowed}), "
          f"{watch.files} descriptors at most; {told(honest)}", flush=True)
    return cost < allowed * MIB and served(honest, seconds)


def main():
    say = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    say.add_argument("program")
    say.add_argument("--idle", type=int, default=10_000)
    say.add_argument("--seconds", type=int, default=15)
    say.add_argument("names", nargs="*", metavar="NAME", help=f"idle {' '.join(ATTACKS)}")
    asked = say.parse_intermixed_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if asked.idle + 300 > hard:
        print(f"SKIPPED: {asked.idle} connections need more than {hard} open files")
        return 77
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-flood-"))
    gateway = Gateway(asked.program, folder / "world", max(4, asked.idle // 900 + 1))
    held_up = []
    try:
        for name in asked.names or ["idle", *ATTACKS]:
            held = idle(gateway, asked.idle, asked.seconds) if name == "idle" else attack(gateway, name, asked.seconds)
            held_up.append(held)
            if not held:
                print(f"FAIL {name}", flush=True)
        gateway.stop()
    finally:
        gateway.process.kill()
        shutil.rmtree(folder)
    print(f"{sum(held_up)} of {len(held_up)} held")
    return 0 if all(held_up) else 1


if __name__ == "__main__":
    sys.exit(main())
