"""Which addresses may strangers make us connect to?  Public ones, and what the operator allows; asked where a socket is made.

Judges numbers only: names are resolved elsewhere, and every address that comes of one is asked about here.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Networks = Sequence[IPv4Network | IPv6Network]

# Explicit, because what `ipaddress` calls global differs between the patch releases of the Pythons we run on.
_CLOSED_RANGES = (
    "0.0.0.0/8 10.0.0.0/8 127.0.0.0/8 172.16.0.0/12 192.168.0.0/16 "  # this host, private
    "169.254.0.0/16 100.64.0.0/10 192.0.0.0/24 168.63.129.16/32 "  # where AWS, Alibaba, Oracle and Azure answer their guests
    "192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 "
    "2001::/23 2002::/16 "  # tunnels (Teredo, 6to4), whose inner address nobody sees
    "2001:db8::/32 3fff::/20"
)
_CLOSED = tuple(map(ip_network, _CLOSED_RANGES.split()))
_OPEN_IPV6 = IPv6Network("2000::/3")  # all that was ever given out; loopback, local, multicast and reserved lie outside
_NAT64 = IPv6Network("64:ff9b::/96")


def permitted(address: str, allow: Networks = ()) -> bool:
    """May strangers make us connect to this IP address?"""
    try:
        target = _unwrapped(ip_address(address))
    except ValueError:
        return False
    if any(target in network for network in allow):
        return True
    if isinstance(target, IPv6Address) and target not in _OPEN_IPV6:
        return False
    return not any(target in network for network in _CLOSED)


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address that packets end at: mapped and NAT64 ones stand for an IPv4 address."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address
