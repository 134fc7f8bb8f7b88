"""Runs on the lab's client machine: python3 -c THIS CARD RATE, until standard input ends.

Prints `served` at the first ACK, and at the end what became of each client, as JSON.
"""

import json
import random
import select
import socket
import struct
import sys
import time

card, rate = sys.argv[1], int(sys.argv[2])
GRACE_S = 40
# How long a client asks the server that made it an offer before it asks all again: what ISC's
# dhclient does (reboot-timeout).
REQUESTING_S = 10
COOKIE = bytes([99, 130, 83, 99])
DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
wire.bind((card, 0))
wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send(client, kind, options=b""):
    secs = min(int(time.monotonic() - client["began"]), 0xFFFF)
    # BROADCAST: the card has no address to be answered at.
    message = struct.pack("!BBBBIHH16x", 1, 1, 6, 0, client["xid"], secs, 0x8000)
    message += client["mac"] + bytes(10 + 192) + COOKIE
    message += bytes([53, 1, kind]) + options + bytes([55, 2, 1, 3, 255])
    udp = struct.pack("!HHHH", 68, 67, 8 + len(message), 0) + message
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4
    )
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    wire.send(b"\xff" * 6 + client["mac"] + b"\x08\x00" + header + udp)
    client["sent"] = (kind, options)


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
    client["again"] = now + 4 * 2 ** client["tries"] + random.uniform(-1, 1)  # noqa: S311
    client["tries"] += 1


clients, waiting = {}, {}
acks, waits, leases = [], [], {}
started = time.monotonic()
ends = None


def received(packet, now):
    if len(packet) < 14 + 20 + 8 + 241 or packet[23] != 17:
        return
    udp = packet[14 + 4 * (packet[14] & 15) :]
    if udp[:4] != struct.pack("!HH", 67, 68):
        return
    message = udp[8:]
    client = waiting.get(message[4:8])
    if client is None:
        return
    options = options_of(message)
    kind = options.get(53, b"\0")[0]
    if kind == OFFER and client["sent"][0] == DISCOVER:
        wanted = bytes([50, 4]) + message[16:20] + bytes([54, 4]) + options[54]
        client["tries"], client["requesting"] = 0, now
        send(client, REQUEST, wanted)
        again(client, now)
    elif kind == ACK and client["sent"][0] == REQUEST:
        if not acks:
            print("served", flush=True)
        acks.append(now)
        waits.append(now - client["began"])
        leases[client["mac"].hex(":")] = socket.inet_ntoa(message[16:20])
        del waiting[message[4:8]]
    elif kind == NAK:
        client["tries"] = 0
        send(client, DISCOVER)
        again(client, now)


while ends is None or (waiting and time.monotonic() < ends):
    now = time.monotonic()
    if ends is None and len(clients) < (now - started) * rate:
        number = len(clients)
        xid = struct.pack("!I", random.getrandbits(16) << 16 | number)
        client = {
            "mac": b"\x02\xaa" + struct.pack("!I", number),
            "xid": struct.unpack("!I", xid)[0],
            "began": now,
            "tries": 0,
        }
        clients[number] = waiting[xid] = client
        send(client, DISCOVER)
        again(client, now)
    for client in list(waiting.values()):
        if now >= client["again"]:
            if client["sent"][0] == REQUEST and now - client["requesting"] > REQUESTING_S:
                client["tries"] = 0
                send(client, DISCOVER)
            else:
                send(client, *client["sent"])
            again(client, now)
    readable, _, _ = select.select([wire, sys.stdin] if ends is None else [wire], [], [], 0.005)
    if wire in readable:
        received(wire.recv(4096), time.monotonic())
    if sys.stdin in readable and not sys.stdin.readline():
        last_arrival = time.monotonic()
        ends = last_arrival + GRACE_S

unserved = [client["mac"].hex(":") for client in waiting.values()]
told = {"acks": acks, "waits": waits, "leases": leases, "unserved": unserved}
print(json.dumps({**told, "last_arrival": last_arrival}))
