"""This machine's key pair, and the peers that it trusts: the same folder serves a learner and an actor.

| in the folder | |
|---|---|
| `own.key_secret` | both keys of this machine, mode 0600 |
| `own.key` | the public one alone |
| `trusted/NAME.key` | the public key of a peer: an actor that a learner lets in, or the learner that an actor talks to |

All are ZeroMQ's certificate files; keys are CURVE's, 32 bytes, written in Z85 as 40 characters.
"""

import os
import re
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

SECRET, PUBLIC, TRUSTED = "own.key_secret", "own.key", "trusted"
PEER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")  # a file name, and no option of a command line
OWNER_ONLY = 0o700
ZAP_ENDPOINT = "inproc://zeromq.zap.01"  # where libzmq asks, within a context


@dataclass(frozen=True)
class Keys:
    """What a machine needs to be let in and to let others in.

    Attributes:
        folder: where the keys are.
        public, secret: of this machine, Z85.
        trusted: public keys, Z85, by the names of the peers.
    """

    folder: Path
    public: bytes
    secret: bytes = field(repr=False)
    trusted: Mapping[str, bytes]


def default_folder() -> Path:
    """`~/.config/segue/keys`, or under XDG_CONFIG_HOME where that is set."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative one is to be ignored, says its specification.
    return (Path(config) if os.path.isabs(config) else Path.home() / ".config") / "segue" / "keys"


def make_keys(folder: Path) -> str:
    """Makes this machine's pair and returns the public key, Z85.

    Raises:
        ValueError: there is a pair already, or the folder cannot be one of keys.
    """
    _make_private(folder)
    secret = folder / SECRET
    try:
        # The file exists with its mode before the secret is in it, and never replaces another.
        os.close(os.open(secret, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise ValueError(
            f"{secret} is there already; use it, or remove it first if every peer is to trust a new key"
        ) from None
    public = b"-"
    while public.startswith(b"-"):  # which a command line would take for an option
        zmq.auth.create_certificates(folder, PUBLIC.removesuffix(".key"))
        public, _ = zmq.auth.load_certificate(secret)
    return public.decode()


def load_keys(folder: Path) -> Keys:
    """This machine's keys and the peers that it trusts.

    Raises:
        ValueError: there are none, they are damaged, or others may read them.
    """
    secret_file = folder / SECRET
    if not secret_file.is_file():
        raise ValueError(f"{folder} holds no keys of this machine; run `segue keys make`")
    _check_private(folder, "700")
    _check_private(secret_file, "600")
    public, secret = _read(secret_file)
    if not secret or not _is_key(secret) or zmq.curve_public(secret) != public:
        raise ValueError(
            f"{secret_file} is damaged; remove it, run `segue keys make`, and have the peers trust the new key"
        )
    return Keys(folder, public, secret, load_trusted(folder))


def load_trusted(folder: Path) -> dict[str, bytes]:
    """The public keys, Z85, of the peers trusted at this moment, by name. Raises `ValueError` where a file is damaged."""
    return {path.stem: _read(path)[0] for path in sorted((folder / TRUSTED).glob("*.key"))}


def trust(folder: Path, name: str, public_key: str) -> None:
    """Trusts a peer from its next connection on, also in a learner that runs.

    To trust it no longer, remove `trusted/NAME.key`: who is connected then stays so until the learner stops.

    Args:
        folder: of this machine's keys.
        name: for the peer; ASCII letters, digits, `.`, `_` and `-`, at most 64.
        public_key: what `segue keys show` says on its machine, Z85.

    Raises:
        ValueError: the name or the key is none, the key is this machine's own, or either is there with another.
    """
    if not PEER_NAME.fullmatch(name):
        raise ValueError(f"peer name {name!r} is none; use letters, digits, `.`, `_` and `-`, as in robot-1")
    if not _is_key(public_key.encode()):
        raise ValueError(
            f"key {public_key!r} of {name!r} is no public key (40 characters of Z85); give what `segue keys show` says"
            " there, in single quotes"
        )
    keys = load_keys(folder)
    key = public_key.encode()
    if key == keys.public:
        raise ValueError(
            f"key of {name!r} is this machine's own; give what `segue keys show` says on the other machine"
        )
    path = folder / TRUSTED / f"{name}.key"
    if keys.trusted.get(name, key) != key:
        raise ValueError(
            f"{path} trusts another key; remove the file first if {name!r} has a new one, or choose another name"
        )
    twin = next((other for other, its in keys.trusted.items() if its == key and other != name), None)
    if twin is not None:
        raise ValueError(
            f"key of {name!r} is trusted already as {twin!r}; remove {path.with_name(f'{twin}.key')} to rename it"
        )
    path.parent.mkdir(OWNER_ONLY, exist_ok=True)
    half = path.with_suffix(".half")  # a running learner reads the folder: it never sees half a file
    half.write_text(f'curve\n    public-key = "{public_key}"\n')
    half.replace(path)


class Doorkeeper:
    """Says to libzmq who may come in, from a thread of its own: with keys, the peers trusted at that moment.

    It answers in the clear as well: libzmq then refuses the first versions of its protocol, for one of which it would take any
    bytes, such as a web page's request to this port.

    Args:
        context: of the sockets at the door; ending it ends the thread.
        keys: of this machine; None lets everybody in.

    Attributes:
        newest_refusal: why somebody was not let in, one sentence; None while all were.
    """

    def __init__(self, context: zmq.Context, keys: Keys | None) -> None:
        self._keys = keys
        self.newest_refusal: str | None = None
        door = context.socket(zmq.REP)
        self._thread = threading.Thread(target=self._run, args=(door,), name="doorkeeper", daemon=True)
        try:
            door.set(zmq.LINGER, 0)
            door.bind(ZAP_ENDPOINT)
            self._thread.start()
        except BaseException:
            door.close(0)
            raise

    def join(self) -> None:
        """Returns when the thread has ended."""
        self._thread.join()

    def _run(self, door: zmq.Socket) -> None:
        with door, suppress(zmq.ContextTerminated):
            while True:  # RFC 27
                version, request, _, where, _, _, *credentials = door.recv_multipart()
                name, refusal = self._judge(where.decode(), credentials)
                self.newest_refusal = refusal or self.newest_refusal
                door.send_multipart([version, request, b"400" if refusal else b"200", b"", name.encode(), b""])

    def _judge(self, where: str, credentials: list[bytes]) -> tuple[str, str | None]:
        """A peer's name, and why it is refused; its credentials are its key, once it has proved to have the secret one."""
        if self._keys is None:
            return "", None
        try:
            trusted = load_trusted(self._keys.folder)
        except (ValueError, OSError) as error:
            return "", f"a peer at {where} is refused, as is everybody: {error}"
        key = z85.encode(credentials[0])
        for name, its in trusted.items():
            if its == key:
                return name, None
        return (
            "",
            f"a peer at {where} has a key that is not trusted; `segue keys trust NAME '{key.decode()}'` lets it in",
        )


def _make_private(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(OWNER_ONLY, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder} cannot hold keys ({error.strerror}); give another folder") from error
    _check_private(folder, "700")


def _check_private(path: Path, mode: str) -> None:
    """Raises `ValueError` where others may read or change what only this user may."""
    found = path.stat().st_mode & 0o777
    if found & 0o077:
        raise ValueError(f"{path} is open to other users (mode {found:03o}); run `chmod {mode} {path}`")


def _read(path: Path) -> tuple[bytes, bytes | None]:
    """Public and secret key of a file. Raises `ValueError` where it has no proper public key."""
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no readable key file; remove it and make it again with `segue keys`") from error
    if not _is_key(public):
        raise ValueError(
            f"{path} is damaged: it holds no key of 40 characters; remove it and make it again with `segue keys`"
        )
    return public, secret


def _is_key(key: bytes) -> bool:
    """Whether this is Z85 of 32 bytes."""
    try:
        return len(z85.decode(key)) == 32
    except (ValueError, KeyError, struct.error):  # of the length, the alphabet, and groups above 2^32
        return False
