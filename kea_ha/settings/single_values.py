"""What a single value may be: one function for each kind of value.

Each takes what pyinfra hands over (a Python literal, or what `--data NAME=VALUE` was parsed to),
returns the value in its one canonical form, or raises Refused with what is allowed and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

from pydantic import BeforeValidator

from kea_ha.settings.problems import Refused

RESERVED_PORTS = {22: "ssh", 67: "DHCP"}

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_INTERFACE = re.compile(r"[^\s/:*\"\\]{1,15}")
_HEX_PAIRS = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2})*")


def is_printable(text: str) -> bool:
    """Whether the text has no control character and is valid Unicode: Kea keeps it as given."""
    return _CONTROL.search(text) is None


def whole(low: int, high: int, unit: str, remedy: str) -> BeforeValidator:
    """A whole number between two bounds, both allowed; text of digits is taken as a number."""

    def check(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,20}\s*", value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Refused(f"a whole number from {low} to {high} {unit}".rstrip(), remedy)
        return value

    return BeforeValidator(check)


def one_of(*allowed: str, remedy: str) -> BeforeValidator:
    """One of a few words."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise Refused(" or ".join(allowed), remedy)
        return value

    return BeforeValidator(check)


def port(value: Any) -> int:
    """A TCP port that is free for us to listen on."""
    allowed = "a TCP port from 1 to 65535, other than 22 (ssh) and 67 (DHCP)"
    remedy = "Choose a port that nothing else uses on either host; the template has 8000 and 8001."
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(allowed, remedy)
    if not 1 <= value <= 65535 or value in RESERVED_PORTS:
        raise Refused(allowed, remedy)
    return value


def ipv4(value: Any) -> str:
    """An IPv4 address, as text, without a prefix length."""
    text = value.strip() if isinstance(value, str) else value
    allowed = "an IPv4 address such as 192.168.1.2"
    try:
        return str(IPv4Address(text if isinstance(text, str) else ""))
    except ValueError:
        pass
    if isinstance(text, str) and "/" in text:
        raise Refused(allowed, "Leave the prefix length off.")
    raise Refused(allowed, "Write the address in full.")


def server_address(value: Any) -> str:
    """The address on which a server of the pair is reached by its partner."""
    allowed = "one IPv4 address of the host, as a literal such as 192.168.1.2"
    text = value.strip() if isinstance(value, str) else value
    try:
        address = IPv4Address(text if isinstance(text, str) else "")
    except ValueError:
        raise Refused(allowed, _why_not_ipv4(text)) from None
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        raise Refused(allowed, "The partner must be able to reach it: give the LAN address.")
    if address == IPv4Address("255.255.255.255"):
        raise Refused(allowed, "That is the broadcast address: give the host's own.")
    return str(address)


def _why_not_ipv4(text: Any) -> str:
    if not isinstance(text, str):
        return "Write the address as text."
    try:
        IPv6Address(text.strip("[]"))
    except ValueError:
        pass
    else:
        return "DHCPv4 clients need an IPv4 address of the server, and the peers use the same one."
    if "/" in text:
        return "Leave the prefix length off."
    if re.search(r"[A-Za-z]", text):
        return "Kea resolves no names in a peer's url: write the address that the name stands for."
    return "Write the address in full, four numbers from 0 to 255."


def network(value: Any) -> str:
    """An IPv4 network in CIDR form, no bits set behind the prefix."""
    allowed = "an IPv4 network in CIDR form, such as 192.168.1.0/24"
    if not isinstance(value, str) or "/" not in value:
        hint = f" ({value}/32 for one address)" if isinstance(value, str) else ""
        raise Refused(allowed, f"Add the prefix length{hint}.")
    try:
        loose = IPv4Network(value.strip(), strict=False)
    except ValueError:
        raise Refused(
            allowed, "Write the network's IPv4 address, a slash, the prefix length."
        ) from None
    if value.strip().split("/")[0] != str(loose.network_address):
        raise Refused(allowed, f"The network of that address is {loose}.")
    return str(loose)


def pool_bounds(text: str) -> tuple[IPv4Address, IPv4Address]:
    """First and last address of `FIRST-LAST` or of a prefix; ValueError if it is neither."""
    if "/" in text:
        block = IPv4Network(text.strip())
        return block[0], block[-1]
    first, dash, last = text.partition("-")
    if not dash:
        raise ValueError(f"{text!r} has no dash and no slash")
    return IPv4Address(first.strip()), IPv4Address(last.strip())


def pool(value: Any) -> str:
    """A range of addresses to lease, first to last."""
    allowed = "a range such as 192.168.1.100-192.168.1.199, or a prefix such as 192.168.1.128/26"
    try:
        first, last = pool_bounds(value if isinstance(value, str) else "")
    except ValueError:
        remedy = "Write the first address, a dash, the last address."
        raise Refused(allowed, remedy) from None
    if first > last:
        raise Refused(f"{allowed}, the lower address first", f"Write {last}-{first}.")
    return re.sub(r"\s", "", str(value))


def interface(value: Any) -> str:
    """The name of one network interface, as `ip link` prints it."""
    allowed = "the name of one interface, such as enp0s8"
    if not isinstance(value, str) or _INTERFACE.fullmatch(value) is None or value in {".", ".."}:
        raise Refused(
            allowed, "Name one interface, or leave it out: it is then found by the address."
        )
    return value


def server_name(value: Any) -> str:
    """A server's name within its pair."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or _SERVER_NAME.fullmatch(value) is None:
        raise Refused(
            "1 to 63 letters, digits, dots, dashes and underscores, a letter or digit first",
            "Use the template's server1 and server2, or the hosts' short names.",
        )
    return value


def _hex_bytes(value: Any) -> str:
    return value.strip().lower().replace("-", ":") if isinstance(value, str) else ""


def mac(value: Any) -> str:
    """A MAC address, lower case with colons."""
    text = _hex_bytes(value)
    if _HEX_PAIRS.fullmatch(text) is None or text.count(":") != 5:
        raise Refused(
            "six pairs of hexadecimal digits, such as 52:54:00:12:34:56",
            "Copy it from the client, or from the log line of its DISCOVER.",
        )
    return text


def client_id(value: Any) -> str:
    """A client identifier (option 61), all of its bytes, lower case with colons."""
    text = _hex_bytes(value)
    if _HEX_PAIRS.fullmatch(text) is None or not 2 <= text.count(":") + 1 <= 255:
        raise Refused(
            "2 to 255 pairs of hexadecimal digits, such as 01:52:54:00:12:34:56",
            "Write every byte of the identifier, its type byte (often 01) first.",
        )
    return text


def hostname(value: Any) -> str:
    """The host name that a client is given."""
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= 253
        or not is_printable(value)
        or re.search(r"\s", value)
    ):
        raise Refused(
            "1 to 253 characters without spaces", "Give a host name such as printer-1, or none."
        )
    return value


def host_path(value: Any) -> str:
    """The absolute path of a file on the host."""
    if (
        not isinstance(value, str)
        or not value.startswith("/")
        or value.endswith("/")
        or ".." in value.split("/")
        or not is_printable(value)
    ):
        raise Refused(
            "an absolute path of a file on the host", "Write it from the root, without `..`."
        )
    return value


def local_path(value: Any) -> str:
    """The path of a file on the operator's side."""
    if not isinstance(value, str) or not value or not is_printable(value):
        raise Refused("the path of a file", "Write it from this project's folder, or in full.")
    return value


def listed(what: str) -> Callable[[Any], Any]:
    """A list; a single text is a list of one, since that is how `--data` is easily typed."""

    def check(value: Any) -> Any:
        if isinstance(value, str | dict):
            value = [value]
        if not isinstance(value, list | tuple):
            raise Refused(f"a list of {what}", "Write a list, with --data as JSON: '[\"…\"]'.")
        return list(value)

    return check


def options(value: Any) -> dict[str, str]:
    """DHCP options by name; the values become the text that Kea reads (csv-format)."""
    if not isinstance(value, Mapping):
        raise Refused(
            'a map of option names to values, such as {"routers": "192.168.1.1"}',
            "Write a map, with --data as JSON.",
        )
    return {str(name): _option_text(str(name), data) for name, data in value.items()}


def _option_text(name: str, data: Any) -> str:
    if isinstance(data, bool):
        return "true" if data else "false"
    if isinstance(data, list | tuple) and data and all(isinstance(one, str | int) for one in data):
        return ", ".join(str(one) for one in data)
    if isinstance(data, str | int | float) and is_printable(str(data)):
        return str(data)
    raise Refused(
        f"a text for the option {name}, as Kea's csv-format takes it, without control characters",
        "Write the value as text; several values with commas between them.",
    )


def mapping(value: Any) -> dict[str, Any]:
    """A map of names to anything."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise Refused("a map", "Write a map, with --data as JSON.")
    return dict(value)
