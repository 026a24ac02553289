"""Recipes as JSON: saved with every run, and read again strictly."""

import json
from pathlib import Path
from typing import Any, TypeVar

import cattrs

from launch.experiments import experiment_names, find_experiment
from launch.recipes import CollectRecipe, CompareRecipe, FinetuneRecipe, PretrainRecipe, RehearseRecipe

RECIPES = {
    "collect": CollectRecipe,
    "pretrain": PretrainRecipe,
    "finetune": FinetuneRecipe,
    "rehearse": RehearseRecipe,
    "compare": CompareRecipe,
}
Recipe = Any  # one of these, or an experiment's

T = TypeVar("T")
_converter = cattrs.Converter(forbid_extra_keys=True)
_ALLOWED = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}


def _strict(value: Any, kind: type) -> Any:
    """A plain value as it stands: `"no"` is not a truth value, and 100.7 is not a count."""
    if type(value) not in _ALLOWED[kind]:
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return value


for _kind in _ALLOWED:
    _converter.register_structure_hook(_kind, _strict)


def _reason(error: BaseException, kind: type | None) -> str:
    return str(error) if isinstance(error, ValueError) else cattrs.v.format_exception(error, kind)


def to_plain(value: Any) -> Any:
    """A dataclass of this module as plain JSON types."""
    return json.loads(json.dumps(_converter.unstructure(value)))


def structure(plain: Any, kind: type[T]) -> T:
    """The dataclass that `to_plain` was given. Raises `ValueError` where another version gave it."""
    try:
        return _converter.structure(plain, kind)
    except cattrs.BaseValidationError as error:
        reasons = "; ".join(cattrs.transform_error(error, format_exception=_reason))
        raise ValueError(f"recipe of the learner: {reasons}; install the same version on both machines") from error


def to_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain JSON, with the command it is of."""
    experiment = type(recipe).__module__.rsplit(".", 1)[-1].replace("_", "-")
    command = next((name for name, kind in RECIPES.items() if isinstance(recipe, kind)), experiment)
    return {"command": command, **to_plain(recipe)}


def read_recipe(path: Path) -> Recipe:
    """The recipe that a run saved. Raises `ValueError`, one sentence, for a file that is none."""
    try:
        plain = json.loads(path.read_text())
        if not isinstance(plain, dict):
            raise KeyError("command")
        command = str(plain["command"])
        kind = find_experiment(command).Recipe if command in experiment_names() else RECIPES[command]
        return _converter.structure({k: v for k, v in plain.items() if k != "command"}, kind)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"recipe {path}: cannot be read ({error}); give the recipe.json of a run") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"recipe {path}: names no command ({error}); give the recipe.json of a run") from error
    except (cattrs.BaseValidationError, ValueError) as error:
        known = isinstance(error, cattrs.BaseValidationError)
        reasons = cattrs.transform_error(error, format_exception=_reason) if known else [str(error)]
        raise ValueError(f"recipe {path}: {'; '.join(reasons)}; correct the file") from error
