"""What passes between the peers, for someone who listens on the wire.

The same capture and the same matcher for two pairs: the one that the rollout makes, of which
nothing but TLS records can be read, and one in clear, made by hand of the same documents, in which
the matcher finds everything that it looks for.
"""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import FAST, HOSTS, Clone
from tests.lab.watching import capture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def streams(file: Path) -> list[bytes]:
    """The payload of each direction of each TCP connection in a capture, in order."""
    raw, at = file.read_bytes(), 24
    pieces: dict[tuple[bytes, bytes], dict[int, bytes]] = defaultdict(dict)
    while at + 16 <= len(raw):
        (length,) = struct.unpack_from("<I", raw, at + 8)
        packet = raw[at + 16 + 14 : at + 16 + length]  # behind the Ethernet header
        at += 16 + length
        size = (packet[0] & 15) * 4
        (total,) = struct.unpack_from(">H", packet, 2)
        segment = packet[size:total]
        payload = segment[(segment[12] >> 4) * 4 :]
        if payload:
            (number,) = struct.unpack_from(">I", segment, 4)
            pieces[packet[12:20], segment[:4]][number] = payload
    return [b"".join(piece for _, piece in sorted(p.items())) for p in pieces.values()]


def is_tls(stream: bytes) -> bool:
    """Whether a stream is TLS records from its first byte to its last (RFC 8446, 5.1)."""
    at = 0
    while at + 5 <= len(stream):
        kind, version, length = struct.unpack_from(">BHH", stream, at)
        # A first ClientHello may say 0x0301 for the sake of old middleboxes.
        if not 0x14 <= kind <= 0x17 or version not in (0x0301, 0x0303) or length > 16384 + 256:
            return False
        at += 5 + length
    return at >= len(stream) > 0


def given_away(file: Path, *data: str) -> list[str]:
    """Those of `data` that can be read in a capture, as text or as a MAC's bytes."""
    content = b"\n".join(streams(file)).lower()
    return [
        one
        for one in data
        if one.lower().encode() in content
        or (one.count(":") == 5 and bytes.fromhex(one.replace(":", "")) in content)
    ]


def _lease_seen_on(lab: Lab, file: Path, mac: str, hostname: str) -> list[str]:
    """Capture while a client gets a lease; what the capture gives away of it."""
    with capture(lab, "host-1", file):
        lease = bench.get_lease(lab, mac=mac, hostname=hostname)
        assert lease is not None
        bench.wait_for(
            "the lease on the standby",
            lambda: bench.leases(lab, "host-2").get(lease.address) == mac,
            patience=10,
        )
    assert sum(map(len, streams(file))) > 200, "the capture has nothing of the lease update"
    return given_away(file, mac, lease.address, hostname)


def _in_clear(lab: Lab) -> None:
    """Make the pair one that talks in clear, as nobody should."""
    for host in HOSTS:
        document = bench.document(lab, host)
        for hook in document["Dhcp4"]["hooks-libraries"]:
            for relationship in hook.get("parameters", {}).get("high-availability", []):
                for name in ("trust-anchor", "cert-file", "key-file", "require-client-certs"):
                    relationship.pop(name)
                for peer in relationship["peers"]:
                    peer["url"] = peer["url"].replace("https:", "http:")
        content = json.dumps(document)
        lab.exec(host, ["sh", "-c", "cat >/etc/kea/kea-dhcp4.conf"], input=content)
    for host in HOSTS:
        bench.sh(lab, host, "systemctl restart kea-dhcp4-server")
    for host in HOSTS:
        bench.wait_for(
            f"hot-standby on {host}",
            lambda host=host: bench.ha_state(lab, host) == "hot-standby",
            patience=60,
        )


def test_a_listener_on_the_wire_learns_nothing_of_a_lease(
    fresh_lab: Callable[..., Lab], operator: Clone, scratch: Path
) -> None:
    """TLS records alone, and neither MAC nor address nor name; of the pair in clear, all three."""
    lab = fresh_lab()
    assert operator.deploy(*FAST).verdict

    secure = scratch / "secure.pcap"
    seen = _lease_seen_on(lab, secure, "02:00:00:00:0a:01", "confidential-laptop")
    assert [] == seen
    assert all(is_tls(stream) for stream in streams(secure))

    _in_clear(lab)
    clear = scratch / "clear.pcap"
    seen = _lease_seen_on(lab, clear, "02:00:00:00:0a:02", "confidential-phone")
    assert 3 == len(seen), seen
    assert not any(is_tls(stream) for stream in streams(clear))

    # And the judge of the pair does not accept it.
    assert "http" in operator.verify(*FAST).refusal
