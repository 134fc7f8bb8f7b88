"""DHCP clients that behave as real ones do: run on a host to probe from, python3 THIS SETTINGS.

SETTINGS is JSON: `card`; `rate`, how many ask in a second; `new`, how many of them at most are new
clients, more than half of them at once, that there are many to renew, and the others spread over
`seconds` (who is not new renews a lease that it has); `directory`, in which
`stop` and then `release` are waited for, and `told` is written in between: what became of each.
`seconds_at_most` ends it all, whatever happens. Told with the rest: which addresses were `twice` in
two hands at one moment, and which leases were `refused` to the client that held them.

A client takes the first offer, and retransmits after 4, 8, 16 s, a second more or less (RFC 2131,
4.1), with its waiting in `secs`. One whose offer comes to nothing begins again after 10 s, as ISC's
dhclient does. Nothing but Python's own library: it runs where nothing of this project is.
"""

import json
import random
import select
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

settings = json.loads(sys.argv[1])
card, rate = settings["card"], settings["rate"]
GRACE_S, REQUESTING_S, RENEWING_S = 40, 10, 60
COOKIE = bytes([99, 130, 83, 99])
DISCOVER, OFFER, REQUEST, ACK, NAK, RELEASE = 1, 2, 3, 5, 6, 7
BROADCAST = b"\xff" * 6

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
wire.bind((card, 0))
wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send(client, kind, options=b"", held=bytes(4)):
    """Send a message; `held` is the address that the client has already, for `ciaddr`."""
    secs = min(int(time.time() - client["began"]), 0xFFFF)
    # BROADCAST: the card has none of these addresses to be answered at.
    message = struct.pack("!BBBBIHH", 1, 1, 6, 0, client["xid"], secs, 0x8000) + held
    message += bytes(12) + client["mac"] + bytes(10 + 192) + COOKIE
    message += bytes([53, 1, kind]) + options + bytes([55, 2, 1, 3, 255])
    udp = struct.pack("!HHHH", 68, 67, 8 + len(message), 0) + message
    to = b"\xff" * 4
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, held, to)
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    with suppress(OSError):  # a card without a link: the client asks again
        wire.send(BROADCAST + client["mac"] + b"\x08\x00" + header + udp)
    client["sent"] = (kind, options, held)


def options_of(message):
    found, at = {}, 240
    while at + 1 < len(message) and message[at] != 255:
        if message[at]:
            found[message[at]] = message[at + 2 : at + 2 + message[at + 1]]
            at += 1 + message[at + 1]
        at += 1
    return found


def again(client, now):
    """When to retransmit: 4, 8, 16 s later, a second more or less."""
    wait = 4 * 2 ** min(client["tries"], 3) + random.uniform(-1, 1)  # noqa: S311 - no secret
    client["again"] = now + wait
    client["tries"] += 1


def begin(client, now, kind, *rest):
    number = client["number"]
    client.update(began=now, tries=0, xid=random.getrandbits(16) << 16 | number & 0xFFFF)
    waiting[client["xid"]] = client
    send(client, kind, *rest)
    again(client, now)


def received(packet, now):
    if len(packet) < 14 + 20 + 8 + 241 or packet[23] != 17:
        return
    udp = packet[14 + 4 * (packet[14] & 15) :]
    if udp[:4] != struct.pack("!HH", 67, 68):
        return
    message = udp[8:]
    (xid,) = struct.unpack("!I", message[4:8])
    client = waiting.get(xid)
    if client is None or message[28:34] != client["mac"]:
        return
    options = options_of(message)
    kind = options.get(53, b"\0")[0]
    if kind == OFFER and client["sent"][0] == DISCOVER:
        wanted = bytes([50, 4]) + message[16:20] + bytes([54, 4]) + options[54]
        client["tries"], client["requesting"] = 0, now
        send(client, REQUEST, wanted)
        again(client, now)
    elif kind == ACK and client["sent"][0] == REQUEST:
        acks.append((now, socket.inet_ntoa(options[54])))
        waits.append(now - client["began"])
        take(client, message[16:20], now + struct.unpack("!I", options[51])[0])
        del waiting[xid]
        idle.append(client)
    elif kind == NAK:
        del waiting[xid]
        if client["sent"][2] != bytes(4) and now < client["until"]:
            refused.append(socket.inet_ntoa(client["address"]))
        client["address"] = None
        begin(client, now, DISCOVER)


def take(client, address, until):
    """Have the client hold the address, until then; nobody else may hold it at this moment."""
    other = holders.get(address)
    if other not in (None, client) and other["address"] == address and time.time() < other["until"]:
        twice.append(socket.inet_ntoa(address))
    holders[address] = client
    client.update(address=address, until=until)


clients, waiting, idle, holders = [], {}, [], {}
acks, waits, twice, refused = [], [], [], []
started = time.time()
directory = Path(settings["directory"])
asked = 0
ends = None


def is_there(name):
    return (directory / name).exists()


def write(name, content):
    candidate = directory / f"{name}.new"
    candidate.write_text(content)
    candidate.replace(directory / name)


checked = 0.0
while ends is None or (waiting and time.time() < ends):
    now = time.time()
    if ends is None and asked < (now - started) * rate:
        asked += 1
        due = settings["new"] * (0.6 + 0.4 * min(1.0, (now - started) / settings["seconds"]))
        if len(clients) < max(1, due) or not idle:
            if len(clients) < settings["new"]:
                number = len(clients)
                mac = b"\x02\xaa" + struct.pack("!I", number)
                client = {"mac": mac, "number": number, "address": None, "until": 0}
                clients.append(client)
                begin(client, now, DISCOVER)
        else:
            client = idle.pop(0)
            client["requesting"] = now
            # Of a lease that stays as it is a newer Kea tells its partner nothing
            # (cache-threshold), so each renewal brings another name.
            name = f"drill-{client['number']}-{asked}".encode()
            begin(client, now, REQUEST, bytes([12, len(name)]) + name, client["address"])
    for client in list(waiting.values()):
        if now >= client["again"]:
            kind, options, held = client["sent"]
            patience = RENEWING_S if held != bytes(4) else REQUESTING_S
            if kind == REQUEST and now - client["requesting"] > patience:
                kind, options, held = DISCOVER, b"", bytes(4)
                client["tries"] = 0
            send(client, kind, options, held)
            again(client, now)
    readable, _, _ = select.select([wire], [], [], 0.005)
    if readable:
        received(wire.recv(4096), time.time())
    if now - checked > 0.1:
        checked = now
        write("acks", str(len(acks)))
        if ends is None and (is_there("stop") or now - started > settings["seconds_at_most"]):
            ends = now + GRACE_S
            last_arrival = now

leases = {
    client["mac"].hex(":"): socket.inet_ntoa(client["address"])
    for client in clients
    if client["address"]
}
unserved = [client["mac"].hex(":") for client in waiting.values()]
told = {"acks": acks, "waits": waits, "leases": leases, "unserved": unserved}
told |= {"twice": twice, "refused": refused}
write("told", json.dumps({**told, "clients": len(clients), "last_arrival": last_arrival}))

while not is_there("release") and time.time() - started < settings["seconds_at_most"] + 300:
    time.sleep(0.1)
for client in clients:
    if client["address"]:
        client["began"] = time.time()
        # To whoever serves by now: another one does not take leases back. Broadcast, since that one
        # may never have been heard by this client.
        send(client, RELEASE, bytes([54, 4]) + socket.inet_aton(acks[-1][1]), client["address"])
        time.sleep(0.002)
