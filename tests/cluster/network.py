"""Join the cluster's network namespace and the machine by a veth pair, and let Pods out through the machine.

Runs ``ip`` and ``nft``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from cluster.places import INTERFACE, ClusterError, Places

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
MTU = 1400  # small enough for machines whose own network is a tunnel


def connect(places: Places, pid: int) -> None:
    """Make the pair: one end here, the other as eth0 where process ``pid`` is."""
    disconnect(places)
    run("ip", "link", "add", places.host_interface, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    inside = ("nsenter", f"--net=/proc/{pid}/ns/net")
    run("ip", "address", "add", f"{places.host_address}/24", "dev", places.host_interface)
    run("ip", "link", "set", places.host_interface, "mtu", str(MTU), "up")
    run(*inside, "ip", "address", "add", f"{places.node_address}/24", "dev", "eth0")
    run(*inside, "ip", "link", "set", "eth0", "mtu", str(MTU), "up")
    run(*inside, "ip", "route", "add", "default", "via", places.host_address)
    # Pods leave under the node's address, and the node under the machine's: neither side needs to know more routes.
    run(*inside, "nft", "-f", "-", text=masquerade("pods", f'ip saddr {places.pod_cidr} oifname "eth0"'))
    subnet = f"{places.node_address.rsplit('.', 1)[0]}.0/24"
    rule = f'ip saddr {subnet} oifname != "{places.host_interface}"'
    run("nft", "-f", "-", text=masquerade(table(places), rule) + forward(table(places), places.host_interface))
    if not places.forwarding.exists():
        places.forwarding.write_text(FORWARDING.read_text())
    FORWARDING.write_text("1")


def disconnect(places: Places) -> None:
    """Take the pair, the rules and the forwarding away; the machine is as before."""
    subprocess.run(["ip", "link", "delete", places.host_interface], check=False, capture_output=True)
    subprocess.run(["nft", "delete", "table", "ip", table(places)], check=False, capture_output=True)
    others = list(Path("/sys/class/net").glob(f"{INTERFACE}*"))
    if places.forwarding.exists() and not others:
        FORWARDING.write_text(places.forwarding.read_text())
        places.forwarding.unlink()


def table(places: Places) -> str:
    return places.host_interface


def masquerade(name: str, match: str) -> str:
    chain = "type nat hook postrouting priority srcnat;"
    return f"table ip {name} {{ chain postrouting {{ {chain} {match} masquerade; }}; }}\n"


def forward(name: str, interface: str) -> str:
    """Accept what comes from and goes to the cluster. Where another table drops it, that table wins."""
    rules = f'iifname "{interface}" accept; oifname "{interface}" accept;'
    return f"table ip {name} {{ chain forward {{ type filter hook forward priority filter; {rules} }}; }}\n"


def name_servers() -> list[str]:
    """The machine's name servers that a Pod can reach too: not one that listens on the loopback address."""
    found: list[str] = []
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        for line in path.read_text().splitlines() if path.exists() else []:
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver" and "." in words[1] and not words[1].startswith("127."):
                found.append(words[1])
    return list(dict.fromkeys(found))[:3]


def run(*command: str, text: str | None = None) -> None:
    done = subprocess.run(command, check=False, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()}")
