"""The papers' presets: WSRL's for each domain, SOAR's for each task, since three of its numbers differ by task.

A task's reward scale and shift, its limit and its discount stand in the task (`sim`). What a paper has and no field here can
say is in docs/methods.md.
"""

from collections.abc import Mapping

from agent.heads import Networks
from launch.preset import Preset
from launch.recipes import Evaluation, Learning, Offline, Online

ACTIONS = {"sampled_actions": 10, "backup_actions": 10}  # uniform, of the policy here, and there; WSRL's code
TARGET_GAP = {"target_gap": 0.8, **ACTIONS}  # of the learned weight on antmaze; WSRL, appendix I
WARM_UP_STEPS = 5_000  # environment steps; WSRL, appendix I, and SOAR, Table 1
REPLAY_CAPACITY = 2_000_000  # transitions; WSRL's code
EVALUATION = Evaluation(trials=20, every_env_steps=20_000, headline="mode")  # WSRL's code, which SOAR runs too

CODE = "WSRL, appendices A to C and I, and its public code; 300,000 steps online as SOAR, section 3, says of it"


def _learning(actor_hidden: tuple[int, ...], critic_hidden: tuple[int, ...], vector: bool = False) -> Learning:
    """WSRL's networks and rates (appendix I and its code), which SOAR keeps (G.2, Table 1)."""
    std = "vector" if vector else "state"
    return Learning(
        Networks(actor_hidden, critic_hidden, critics=10, members_per_target=2, layer_norm=True, std=std),
        actor_lr=1e-4,
        critic_lr=3e-4,
        temperature_lr=1e-4,
        tau=0.005,
        temperature=1.0,
    )


ANTMAZE = _learning((256, 256), (256, 256, 256, 256), vector=True)
ADROIT = _learning((512, 512), (512, 512, 512))
KITCHEN = _learning((512, 512, 512), (512, 512, 512))
LOCOMOTION = _learning((256, 256), (256, 256))

# The weight of CQL's and Cal-QL's penalty, and IQL's numbers by domain; WSRL, appendix I.
IQL_ANTMAZE = {"expectile": 0.9, "inverse_temperature": 10.0}
IQL_HAND = {"expectile": 0.7, "inverse_temperature": 0.5}
IQL_LOCOMOTION = {"expectile": 0.7, "inverse_temperature": 3.0}

# SOAR's updates (section 3), alpha_0 (Table 1: fixed on antmaze too, where WSRL learns it), and IQL's numbers, by domain.
SOAR_OFFLINE = {
    "antmaze": (1_000_000, 5.0, IQL_ANTMAZE),
    "adroit": (40_000, 1.0, IQL_HAND),
    "kitchen": (250_000, 5.0, IQL_HAND),
}


def _coef(conservative: float, iql: Mapping[str, float]) -> dict[str, Mapping[str, float]]:
    penalty = {"conservative": conservative, **ACTIONS}
    return {"cql": penalty, "calql": penalty, "iql": iql}


def _wsrl(
    domain: str,
    tasks: tuple[str, ...],
    learning: Learning,
    offline: tuple[str, int],
    coef: Mapping[str, Mapping[str, float]],
    retained: float = 0.5,
    left_out: str = "",
) -> Preset:
    """`offline`: method and updates. `retained`: the share of a batch where offline data are kept (appendix I)."""
    method, updates = offline
    return Preset(
        name=f"wsrl/{domain}",
        source=CODE + left_out,
        tasks=tasks,
        learning=learning,
        offline=Offline(method, dict(coef[method]), updates, batch_size=256),
        # Four critic updates of 256, then one of the actor on all 1,024, which follows the lowest critic.
        online=Online(
            "sac_min",
            bridge="warm_up",
            bridge_settings={"steps": WARM_UP_STEPS},
            env_steps=300_000,
            utd=4,
            batch_size=256,
            replay_capacity=REPLAY_CAPACITY,
        ),
        evaluation=EVALUATION,
        coef=coef,
        bridges={
            "warm_up": {"steps": WARM_UP_STEPS},
            "retain": {"offline_share": retained},
            "rlpd": {"offline_share": 0.5},  # section 5.1
            "scratch": {"steps": WARM_UP_STEPS},  # its scripts without pre-training act as long
            "jump_start": {"probability": 0.5, "steps": 100_000, "gamma": 0.99},
        },
    )


def _soar(
    name: str, task: str, learning: Learning, schedule: tuple[float, int, int], missing_rate: bool = False
) -> Preset:
    """`schedule`: lambda_0, T_lambda and T_alpha, in environment steps. `missing_rate`: r is a blank in Table 1."""
    share, share_steps, weight_steps = schedule
    updates, conservative, iql = SOAR_OFFLINE[name.split("-")[0]]
    coef = _coef(conservative, iql)
    anneal = {
        "share": share,
        "share_steps": share_steps,
        "rate": 5.0,
        "weight_steps": weight_steps,
        "warm_up": WARM_UP_STEPS,
    }
    blank = "; its r is a blank in print, here 5 as in the other columns" if missing_rate else ""
    return Preset(
        name=f"soar/{name}",
        source=f"SOAR, section 3 and Table 1{blank}; the rest as WSRL's public code, which it builds on",
        tasks=(task,),
        learning=learning,
        offline=Offline("cql", dict(coef["cql"]), updates, batch_size=512),
        online=Online(
            "cql",
            dict(coef["cql"]),
            bridge="anneal",
            bridge_settings=anneal,
            env_steps=400_000,
            utd=1,
            batch_size=512,
            replay_capacity=REPLAY_CAPACITY,
        ),
        evaluation=EVALUATION,
        coef=coef,
        bridges={
            "anneal": anneal,
            "warm_up": {"steps": WARM_UP_STEPS},
            "retain": {"offline_share": 0.25},  # section 4: held at a quarter for all tasks
        },
    )


MAZES = tuple(f"antmaze-{maze}" for maze in ("umaze", "umaze-diverse"))
MAZES += tuple(f"antmaze-{size}-{data}" for size in ("medium", "large", "ultra") for data in ("play", "diverse"))

PAPER_PRESETS: tuple[Preset, ...] = (
    _wsrl(
        "antmaze",
        MAZES,
        ANTMAZE,
        ("calql_lagrange", 1_000_000),
        {"calql_lagrange": TARGET_GAP, "cql_lagrange": TARGET_GAP, "iql": IQL_ANTMAZE},
        left_out="; left out: online, its target takes the best of 10 actions, and RLPD draws 1 critic for it",
    ),
    _wsrl(
        "adroit",
        ("pen-binary", "door-binary", "relocate-binary"),
        ADROIT,
        ("calql", 20_000),
        _coef(1.0, IQL_HAND),
    ),
    _wsrl(
        "kitchen",
        ("kitchen-partial", "kitchen-mixed", "kitchen-complete"),
        KITCHEN,
        ("calql", 250_000),
        _coef(5.0, IQL_HAND),
        retained=0.25,
        left_out="; left out: its gap has no importance weights",
    ),
    _wsrl(
        "locomotion",
        ("halfcheetah", "hopper", "walker2d"),
        LOCOMOTION,
        ("cql", 250_000),  # its data have no returns to calibrate by (appendix B)
        _coef(5.0, IQL_LOCOMOTION),
    ),
    _soar("antmaze-large-diverse", "antmaze-large-diverse", ANTMAZE, (0.75, 40_000, 80_000)),
    _soar("antmaze-large-play", "antmaze-large-play", ANTMAZE, (0.25, 40_000, 80_000)),
    _soar("antmaze-ultra-diverse", "antmaze-ultra-diverse", ANTMAZE, (0.25, 40_000, 40_000)),
    _soar("adroit-door", "door-binary", ADROIT, (0.25, 20_000, 40_000)),
    _soar("adroit-pen", "pen-binary", ADROIT, (0.75, 40_000, 80_000), missing_rate=True),
    _soar("kitchen-partial", "kitchen-partial", KITCHEN, (0.9, 80_000, 160_000)),
    _soar("kitchen-mixed", "kitchen-mixed", KITCHEN, (0.75, 20_000, 160_000), missing_rate=True),
)
