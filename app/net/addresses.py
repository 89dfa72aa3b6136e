"""URLs and IP addresses that are never contacted: malformed or private URLs, and addresses outside the public internet.

Pure rules, no network. The lists are the IANA special-purpose registries for IPv4 and IPv6 plus the deprecated and
cloud-internal ranges that Python's `ipaddress.is_global` calls global (6to4 and NAT64 wrap private IPv4 addresses,
168.63.129.16 is Azure's host, site-local and multicast are not hosts of a customer).
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from yarl import URL

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(part) for part in text.split())


_DENIED = _networks(
    # IPv4: this host, private, shared (CGNAT, Alibaba's metadata), loopback, link-local (metadata of most clouds).
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 168.63.129.16/32 "
    # IPv4: protocol assignments, documentation, AS112, AMT, 6to4 relay, benchmarks, multicast, reserved.
    "192.0.0.0/24 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.175.48.0/24 198.18.0.0/15 "
    "198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 "
    # IPv6: unspecified, loopback and IPv4-compatible, SIIT, NAT64 (global and local), discard, protocol assignments.
    "::/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 "
    # IPv6: documentation, 6to4, AS112, segment routing, unique local, link-local, site-local, multicast.
    "2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8"
)
_UNICAST_V6 = IPv6Network("2000::/3")

# What a development machine may connect to when the operator allows it. Metadata services stay blocked even then.
_PRIVATE = _networks("10.0.0.0/8 127.0.0.0/8 172.16.0.0/12 192.168.0.0/16 ::1/128 fc00::/7")
_METADATA = _networks("fd00:ec2::/32")


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse networks separated by commas or spaces. Raises ValueError for an invalid one."""
    return _networks(text.replace(",", " "))


def address_refusal(
    address: str | Address, *, allow_private: bool = False, denied: tuple[Network, ...] = ()
) -> str | None:
    """Return the reason why `address` must not be contacted, or None when it may be.

    `allow_private` permits loopback and private networks (development); `denied` are further networks of the operator.
    IPv4 addresses wrapped in IPv6 (`::ffff:10.0.0.1`) are checked as IPv4. Text that is no address is refused.
    """
    try:
        plain = _unwrap(ip_address(address) if isinstance(address, str) else address)
    except ValueError:
        return "not an IP address"
    if isinstance(plain, IPv6Address) and plain.scope_id:
        return "an address with a zone"
    if _inside(plain, denied):
        return "in a network that the operator denies"
    if allow_private and _inside(plain, _PRIVATE) and not _inside(plain, _METADATA):
        return None
    if _inside(plain, _DENIED):
        return "in a special-purpose network"
    if isinstance(plain, IPv6Address) and plain not in _UNICAST_V6:
        return "outside the global unicast range"
    return None if plain.is_global else "not a global address"


def _unwrap(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _inside(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


URL_LENGTH_MAX = 2_048
_PORTS = {"https": (443, 8443), "http": (80,)}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# Names that only resolve inside a private network (RFC 6761, 6762, 7686, 8375, 9476 and common practice).
_PRIVATE_NAMES = (
    "localhost",
    "local",
    "internal",
    "intranet",
    "lan",
    "corp",
    "home",
    "private",
    "home.arpa",
    "onion",
    "alt",
)


def url_refusal(url: str, *, http: bool = False, strict: bool = True) -> str | None:
    """Return the reason (a clause) why `url` cannot be used, or None when its form is valid.

    `http` permits plain HTTP (media; webhooks are HTTPS only). `strict=False` (development) permits plain HTTP, any
    port, IP literals and private names. Names are not resolved here: addresses are checked at the connection.
    """
    if len(url) > URL_LENGTH_MAX:
        return f"it is longer than {URL_LENGTH_MAX:,} characters"
    if re.search(r"[\s\x00-\x1f\x7f\\]", url):
        return "it contains a space, a control character or a backslash"
    try:
        parsed = URL(url)
        host, port = parsed.raw_host, parsed.port
    except ValueError:
        return "it is not a valid URL"
    schemes = ("https", "http") if http or not strict else ("https",)
    if parsed.scheme not in schemes:
        return f"its scheme must be {' or '.join(schemes)}"
    if parsed.raw_user is not None or parsed.raw_password is not None:
        return "it contains a user name or a password"
    if parsed.raw_fragment or "#" in url:
        return "it contains a fragment"
    if not strict:
        return None if host else "it has no host"
    if port not in _PORTS[parsed.scheme]:
        return f"its port must be one of {', '.join(str(number) for number in _PORTS[parsed.scheme])}"
    return _host_refusal(host or "")


def without_query(url: str) -> str:
    """Return a customer's URL as logs may show it: without user, query and fragment, which may be credentials."""
    try:
        return str(URL(url).with_user(None).with_query(None).with_fragment(None))
    except ValueError:
        return "a malformed URL"


def _host_refusal(host: str) -> str | None:
    # Resolvers treat a name whose last label is a number as an IPv4 address (WHATWG URL, "ends in a number").
    labels = host.removesuffix(".").split(".")
    if ":" in host or "%" in host or re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        return "its host is an IP address; use a name"
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "its host is not a valid name"
    name = ".".join(labels)
    if len(labels) < 2 or any(name == private or name.endswith(f".{private}") for private in _PRIVATE_NAMES):
        return "its host is not a public name"
    return None
