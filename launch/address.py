"""Where a learner is: addresses as people write them, and which of them need keys."""

import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass, replace

from launch.keys import Keys

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
EVERY_INTERFACE = ("*", "0.0.0.0", "::")
LAST_PORT = 65534  # the parameters' port is one more


@dataclass(frozen=True)
class Address:
    """Where a learner's data socket is; port 0 stands for any."""

    host: str
    port: int

    @property
    def parameters(self) -> "Address":
        """Where its parameters are published."""
        return replace(self, port=self.port + 1)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it. Of names only localhost is taken for that, wherever others lead."""
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host.lower() == "localhost"

    @property
    def endpoint(self) -> str:
        """As ZeroMQ writes it."""
        return f"tcp://{replace(self, host='127.0.0.1') if self.host.lower() == 'localhost' else self}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, default_port: int = 5555) -> Address:
    """`HOST`, `HOST:PORT`, `[IPv6]:PORT`, an IPv6 address, or `*:PORT`, also after `tcp://`. Raises `ValueError`."""
    bare = text.strip().removeprefix("tcp://")
    match = re.fullmatch(r"(?:\[(?P<v6>.*)\]|(?P<name>[^:]*))(?::(?P<port>[0-9]+))?", bare)
    host, port = (bare, None) if match is None else (match["v6"] or match["name"] or "", match["port"])
    proper = host in EVERY_INTERFACE[:2] or HOST.fullmatch(host)
    if match is None or match["v6"]:
        proper = False
        with suppress(ValueError):
            proper = ipaddress.ip_address(host).version == 6
    if not proper:
        raise ValueError(f"address {text!r} names no host; give HOST:PORT, such as 127.0.0.1:5555 or [fd00::7]:5555")
    if port is not None and (len(port) > 5 or int(port) > LAST_PORT):
        raise ValueError(f"address {text!r}: port {port} is above {LAST_PORT}; give a lower one")
    return Address(host, default_port if port is None else int(port))


def check_bind(address: Address, keys: Keys | None) -> None:
    """Raises `ValueError` where others reach the address and there are no keys, or nobody is trusted."""
    if address.is_loopback:
        return
    if keys is None:
        raise ValueError(
            f"learner at {address} would be open to the network, and there are no keys; run `segue keys make` and, for"
            " each actor's machine, `segue keys trust NAME KEY`, or bind 127.0.0.1"
        )
    if not keys.trusted:
        raise ValueError(
            f"learner at {address}: {keys.folder} trusts nobody, so no actor could join; run `segue keys trust NAME KEY`"
            " with what `segue keys show` says on the actor's machine"
        )
