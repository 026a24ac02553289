"""The commands of runs whose learner and actors are apart: `learner`, `actor`, `keys`, `journal`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from launch.act import Acting, act
from launch.address import Address, parse_address
from launch.finetune import learner_stage
from launch.journal_tools import What, look_after
from launch.keys import Keys, default_folder, load_keys, make_keys, trust
from launch.options import EXIT_FAILED, FINETUNE, Flat, Json, Out, Resume, show_curve, with_bridge_settings
from launch.recipes import FinetuneRecipe
from launch.rig import Rig
from launch.runs import progress_bar
from launch.show import show

ACTING, RIG = Acting(), Rig()


def learner(
    out: Out,
    recipe: Annotated[FinetuneRecipe, Flat] = FINETUNE,
    bind: str = "127.0.0.1:5555",
    keys: Path | None = None,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Fine-tune with actors that join from other processes or machines: the learner's side.

    Args:
        bind: HOST:PORT for transitions; parameters take the port after it. Any host but loopback needs keys.
        keys: Folder of this machine's keys, see `segue keys`; without it, loopback speaks in the clear.
    """
    address = parse_address(bind)
    trusted = keys_for(address, keys)
    with progress_bar() as progress:
        learner_stage(with_bridge_settings(recipe), out, progress, resume, address, trusted)
    show_curve(out, json)


def actor(
    connect: str,
    out: Annotated[
        Path, tyro.conf.arg(help="Folder for what is not delivered yet; keep it between starts.", metavar="DIR")
    ],
    acting: Annotated[Acting, Flat] = ACTING,
    rig: Annotated[Rig, Flat] = RIG,
    keys: Path | None = None,
    learner_name: str | None = None,
    json: Json = False,
) -> None:
    """Act for a learner that is elsewhere, and go on while it is away.

    Args:
        connect: HOST:PORT of `segue learner`.
        keys: Folder of this machine's keys, see `segue keys`; without it, loopback speaks in the clear.
        learner_name: Which trusted peer the learner is, where several are trusted.
    """
    address = parse_address(connect)
    trusted = keys_for(address, keys)
    show(json, act(address, trusted, out, acting, learner_name, rig))


def keys_for(address: Address, folder: Path | None) -> Keys | None:
    """The keys in a folder; without one those of this machine, where it has any and the address is not loopback."""
    if folder is None and (address.is_loopback or not default_folder().exists()):
        return None
    return load_keys(folder or default_folder())


def keys(
    what: Annotated[Literal["make", "show", "trust"], tyro.conf.Positional],
    peer: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    folder: Path | None = None,
    json: Json = False,
) -> None:
    """Keys of this machine, and of the machines that it lets in.

    Args:
        what: `make`: a pair for this machine. `show`: its public key, and whom it trusts. `trust NAME KEY`: let a machine in.
        peer: NAME and KEY of a machine to trust.
        folder: Where they are.
    """
    folder = folder or default_folder()
    if len(peer) != (2 if what == "trust" else 0):
        raise ValueError(
            "segue keys: give `make`, `show`, or `trust NAME KEY` with the key that `show` says on the other machine"
        )
    if what == "make":
        make_keys(folder)
    elif what == "trust":
        trust(folder, *peer)
    own = load_keys(folder)
    trusted = {name: key.decode() for name, key in own.trusted.items()}
    key = own.public.decode()
    facts = {"folder": str(folder), "public key": key, "trusted": trusted}
    show(json, facts)
    if not json:
        print(f"on the other machine: segue keys trust NAME '{key}'")  # one line, to be copied


def journal(
    what: Annotated[What, tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    episode: str | None = None,
    reason: str = "",
    json: Json = False,
) -> None:
    """Look after the journal of a run: every transition that its actors delivered.

    Args:
        what: `show`: what is in it. `verify`: look for damage. `repair`: cut torn tails and close gaps; nothing is deleted.
            `discard`: an episode is not to be learned from, without rewriting anything. `restore`: it is again.
        folder: Folder of the run, or its journal.
        episode: SESSION:NUMBER, as `show` names it.
        reason: Why it is discarded, kept with it.
    """
    ok, facts = look_after(what, folder, episode, reason)
    show(json, facts)
    if not ok:
        sys.exit(EXIT_FAILED)
