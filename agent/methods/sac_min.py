"""SAC whose actor follows the most pessimistic critic, as WSRL's simulation code does."""

from dataclasses import replace
from functools import partial

from agent.methods import sac

METHOD = replace(sac.METHOD, losses={**sac.METHOD.losses, "actor": partial(sac.actor, pessimistic=True)})
