"""The lab's LAN: one namespace with the bridge and the router, and one for each machine.

Nothing of it is in the machine's own network namespace, and no way leads out of it. A machine's
namespace is made anew at each power-on, so that addresses, routes and firewall rules start as
they do on real hardware, and is gone when the machine is off: its address does not answer then.
"""

from lab.pair import Node, Pair
from lab.places import NAME
from lab.programs import run

BRIDGE = "lan"
LAN = NAME


def namespace(node: Node) -> str:
    """Name of the network namespace of `node`."""
    return f"{NAME}-{node.name}"


def build_lan(pair: Pair) -> None:
    """Make the LAN's namespace with its bridge and the router's address on it."""
    _ip("netns add", LAN)
    _batch(
        LAN,
        "link set lo up",
        f"link add {BRIDGE} type bridge",
        f"addr add {pair.router} dev {BRIDGE}",
        f"link set {BRIDGE} up",
    )


def plug(node: Node) -> None:
    """Make the namespace of `node` afresh, with its cards on the LAN."""
    unplug(node)
    here = namespace(node)
    _ip("netns add", here)
    _batch(here, "link set lo up")
    for card, port in zip(node.cards, _ports(node), strict=True):
        _batch(
            LAN,
            f"link add {port} type veth peer name {card.name} address {card.mac} netns {here}",
            f"link set {port} master {BRIDGE} up",
        )
        if card.address is not None:
            _batch(here, f"addr add {card.address} broadcast + dev {card.name}")
        _batch(here, f"link set {card.name} up")


def unplug(node: Node) -> None:
    """Pull the cables of `node`, then remove its namespace; nothing to do is fine.

    The cables go first: what dies next cannot say goodbye to its peers, as in a power cut.
    """
    if LAN in namespaces():
        for port in _ports(node):
            run(["ip", "-n", LAN, "link", "del", port], check=False)
    if namespace(node) in namespaces():
        _ip("netns del", namespace(node))


def namespaces() -> list[str]:
    """Names of all network namespaces of the lab that exist now."""
    names = [line.split()[0] for line in run(["ip", "netns", "list"]).splitlines() if line]
    return [name for name in names if name == NAME or name.startswith(f"{NAME}-")]


def occupants(name: str) -> list[int]:
    """Ids of the processes in the namespace `name`, such as an ssh session's `nc`."""
    return [int(pid) for pid in run(["ip", "netns", "pids", name], check=False).split()]


def remove(name: str) -> None:
    """Remove the namespace `name`, with everything in it."""
    _ip("netns del", name)


def _ports(node: Node) -> list[str]:
    """The bridge's ends of the cables of `node`, in the order of its cards."""
    return [f"{node.name}.{number}" for number in range(len(node.cards))]


def _ip(verb: str, name: str) -> None:
    run(["ip", *verb.split(), name])


def _batch(name: str, *lines: str) -> None:
    run(["ip", "-n", name, "-batch", "-"], given="".join(f"{line}\n" for line in lines))
