#!/usr/bin/env python3
"""A disk that loses power: one file, served over FUSE, for a loop device with a real file system on it.

`device.py MOUNTPOINT IMAGE` serves IMAGE as MOUNTPOINT/disk. What is written is kept apart in memory until the
file system asks for a flush; only then it goes to IMAGE. Commands on standard input, each answered by a line:

  cut FOLDER SEED   the power goes now. In FOLDER are then the disks as they may be found: `strict` (only what was
                    flushed), `all` (everything that was sent: the cache survived) and `subset` (of each later 4-KiB
                    page some earlier version, chosen by SEED). Nothing is served until the next command.
  dead              serves again, so that whoever waits can die; nothing of it is kept.

Linux only, as root; no library but Python's own. The protocol is that of linux/fuse.h, version 7.31.
"""
import ctypes
import errno
import os
import random
import select
import stat
import struct
import subprocess
import sys

PAGE = 4096
WRITE_MAX = 1 << 20
ROOT, DISK = 1, 2
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 1, 2, 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, ACCESS, INTERRUPT, DESTROY, BATCH_FORGET = 20, 25, 26, 34, 36, 38, 42
BIG_WRITES, MAX_PAGES = 1 << 5, 1 << 22


class Disk:
    """Bytes that are flushed, and what was written since: every version of each page, oldest first."""

    def __init__(self, image):
        self.image = image
        self.file = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.file).st_size
        self.waiting = {}

    def page(self, number):
        versions = self.waiting.get(number)
        return versions[-1] if versions else os.pread(self.file, PAGE, number * PAGE)

    def read(self, offset, size):
        first, last = offset // PAGE, (offset + size + PAGE - 1) // PAGE
        if not any(number in self.waiting for number in range(first, last)):
            return os.pread(self.file, size, offset)
        whole = b"".join(self.page(number) for number in range(first, last))
        return whole[offset - first * PAGE :][:size]

    def write(self, offset, data):
        at = 0
        while at < len(data):
            number, inside = divmod(offset + at, PAGE)
            piece = data[at : at + PAGE - inside]
            if len(piece) < PAGE:
                old = self.page(number)
                piece = old[:inside] + piece + old[inside + len(piece) :]
            self.waiting.setdefault(number, []).append(piece)
            at += PAGE - inside

    def flush(self):
        for number, versions in self.waiting.items():
            os.pwrite(self.file, versions[-1], number * PAGE)
        self.waiting.clear()

    def cut(self, folder, seed):
        coin = random.Random(seed)
        chosen = {"strict": {}, "all": {}, "subset": {}}
        for number, versions in self.waiting.items():
            chosen["all"][number] = versions[-1]
            kept = coin.randrange(len(versions) + 1)
            if kept:
                chosen["subset"][number] = versions[kept - 1]
        for name, pages in chosen.items():
            path = os.path.join(folder, name)
            subprocess.run(["cp", "--sparse=always", self.image, path], check=True)
            with open(path, "r+b", buffering=0) as file:
                for number, page in pages.items():
                    os.pwrite(file.fileno(), page, number * PAGE)
        return len(self.waiting)


def attributes(node, size):
    mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o600
    return struct.pack("<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, PAGE, 0)


def answer(disk, opcode, node, body):
    """The reply's body; an int is an error number; None wants no reply."""
    size = 0 if node == ROOT else disk.size
    if opcode == INIT:
        major, minor, ahead, _ = struct.unpack_from("<4I", body)
        assert major == 7 and minor >= 31, f"the kernel speaks FUSE {major}.{minor}"
        flags = BIG_WRITES | MAX_PAGES
        return struct.pack("<4I2H2I2H8I", 7, 31, ahead, flags, 64, 48, WRITE_MAX, 1, WRITE_MAX // PAGE, 0, *[0] * 8)
    if opcode == LOOKUP:
        if body.rstrip(b"\0") != b"disk":
            return errno.ENOENT
        return struct.pack("<4Q2I", DISK, 1, 3600, 3600, 0, 0) + attributes(DISK, disk.size)
    if opcode in (GETATTR, SETATTR):
        return struct.pack("<Q2I", 3600, 0, 0) + attributes(node, size)
    if opcode == OPEN:
        return struct.pack("<Q2I", 0, 0, 0)
    if opcode == READ:
        _, offset, count = struct.unpack_from("<2QI", body)
        return disk.read(offset, min(count, max(0, disk.size - offset)))
    if opcode == WRITE:
        _, offset, count = struct.unpack_from("<2QI", body)
        disk.write(offset, body[40 : 40 + count])
        return struct.pack("<2I", count, 0)
    if opcode == FSYNC:
        disk.flush()
        return b""
    if opcode in (FLUSH, RELEASE, ACCESS, DESTROY):
        return b""
    if opcode == STATFS:
        return struct.pack("<5Q4I6I", disk.size // PAGE, 0, 0, 0, 0, PAGE, 255, PAGE, 0, *[0] * 6)
    return None if opcode in (FORGET, BATCH_FORGET, INTERRUPT) else errno.ENOSYS


def serve_one(fuse, disk):
    try:
        request = os.read(fuse, WRITE_MAX + 2 * PAGE)
    except OSError as error:
        if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
            return True
        return False  # ENODEV: unmounted
    length, opcode, unique, node = struct.unpack_from("<2I2Q", request)
    reply = answer(disk, opcode, node, request[40:length])
    if reply is None:
        return True
    error, body = (-reply, b"") if isinstance(reply, int) else (0, reply)
    try:
        os.write(fuse, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
    except OSError as gone:
        if gone.errno != errno.ENOENT:  # whoever asked was interrupted
            raise
    return True


def main():
    mountpoint, image = sys.argv[1:]
    disk = Disk(image)
    fuse = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"sallyport-power", mountpoint.encode(), b"fuse", ctypes.c_ulong(0), options) != 0:
        sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
    print("mounted", flush=True)
    poll = select.poll()
    poll.register(fuse, select.POLLIN)
    poll.register(0, select.POLLIN)
    commands, is_on = b"", True
    while is_on:
        for ready, _ in poll.poll():
            if ready == fuse:
                is_on = serve_one(fuse, disk)
                continue
            more = os.read(0, 4096)
            if not more:
                poll.unregister(0)
            commands += more
            while b"\n" in commands:
                line, commands = commands.split(b"\n", 1)
                words = line.decode().split()
                if words[:1] == ["cut"]:
                    print("cut", disk.cut(words[1], int(words[2])), flush=True)
                    # The power is out: only a command wakes us.
                    poll.unregister(fuse)
                elif words == ["dead"]:
                    poll.register(fuse, select.POLLIN)
                    print("dead", flush=True)


main()
