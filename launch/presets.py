"""The presets there are: the papers', and ours for two cores."""

from agent.heads import Networks
from launch.experiments import adroit_door
from launch.paper_presets import PAPER_PRESETS
from launch.preset import Preset
from launch.recipes import Evaluation, Learning, Offline, Online
from launch.rehearse import QUICK

# A dozen episodes or so: with a paper's 2,048 steps, few rollouts fit into runs this short.
SHORT_ROLLOUTS = {"block": 500, "utd": 10, "batch_size": 125}

# Half of the updates of pre-training each, and schedules over the whole run, as OCR-CFT's.
RECONSTRUCTED = {
    "reevaluation_updates": 2_500,
    "alignment_updates": 2_500,
    "threshold_steps": 6_000,
    "beta_steps": 20_000,
}
REHEARSED = {
    "reevaluation_updates": 3_000,
    "alignment_updates": 3_000,
    "threshold_steps": 3_000,
    "beta_steps": 10_000,
}
SHORT_RUNS = {
    # The paper's 40 flattens Q within so few updates: alpha and the slope of Q hold each other at zero.
    "smac": {"kappa": 1.0},
    "spot": {"support": 1.0},
}
# Muon's steps have the norm of its rate: a fiftieth of the paper's updates wants more of it.
MUON = {"updates": 10_000, "before_updates": 5_000, "rate": 10.0}
# A point in the plane: an evaluation of all seeds takes a second, a run of five seeds a few minutes.
PASSAGE = Preset(
    "segue/passage",
    "ours: the smallest sizes at which Cal-QL and SAC were seen to learn the task",
    ("narrow_passage",),
    Learning(Networks((64, 64), (64, 64), critics=2), tau=0.01, temperature=0.1),
    Offline("calql", updates=5_000, batch_size=64),
    Online("sac", env_steps=10_000, utd=1, batch_size=128, block=20, replay_capacity=20_000),
    Evaluation(trials=50, every_env_steps=500, headline="mode"),
    coef={
        name: {"conservative": 1.0, "sampled_actions": 3, "backup_actions": 1}
        for name in ("calql", "cql", "cql_ensemble")
    }
    | SHORT_RUNS,
    bridges={
        "warm_up": {"steps": 1_000},
        "anneal": {"share": 0.5, "share_steps": 4_000, "weight_steps": 4_000, "warm_up": 0},
        "policy_only": {"steps": 1_000, "utd": 4},
        "pretrain": {"steps": 1_000, "updates": 2_000, "kappa_steps": 3_000},
        "jump_start": {"steps": 4_000, "gamma": 0.95},
        "scratch": {"steps": 1_000},
        "reconstruct": RECONSTRUCTED,
        "clone": {**RECONSTRUCTED, "clone_updates": 2_500},
    },
    networks={"cql_ensemble": {"actors": 2, "critics": 4}},
    offline_of={"smac": MUON},
    online_of={"ppo": SHORT_ROLLOUTS},
)
# The quick rehearsal's numbers.
PEG = Preset(
    "segue/peg",
    "ours: the quick rehearsal's",
    ("peg_insertion",),
    QUICK.learning,
    QUICK.offline,
    QUICK.online,
    QUICK.evaluation,
    coef={name: dict(QUICK.offline.coef) for name in ("calql", "cql", "cql_ensemble")} | SHORT_RUNS,
    bridges={
        "warm_up": {"steps": 500},
        "anneal": {"share": 0.5, "share_steps": 1_500, "weight_steps": 1_500, "warm_up": 0},
        "policy_only": {"steps": 500},
        "pretrain": {"steps": 500, "updates": 1_000, "kappa_steps": 1_500},
        "jump_start": {"steps": 1_500, "gamma": 0.95},
        "scratch": {"steps": 500},
        "reconstruct": REHEARSED,
        "clone": {**REHEARSED, "clone_updates": 3_000},
    },
    networks={"cql_ensemble": {"actors": 2}},
    offline_of={"smac": MUON},
    online_of={"ppo": SHORT_ROLLOUTS},
)
DOOR = Preset(
    "segue/door",
    "ours: those of `segue run adroit-door`, whose data set it is for",
    (adroit_door.TASK,),
    adroit_door.SCALED.online_learning,
    adroit_door.SCALED.offline,
    adroit_door.SCALED.online,
    adroit_door.SCALED.evaluation,
    coef={"calql_cloned": dict(adroit_door.SCALED.offline.coef)},
    bridges={
        "warm_up": dict(adroit_door.SCALED.online.bridge_settings),
        "anneal": {"share": 0.25, "share_steps": 20_000, "weight_steps": 40_000, "warm_up": 5_000},
    },
)
OURS = (PASSAGE, PEG, DOOR)
PRESETS = {preset.name: preset for preset in (*OURS, *PAPER_PRESETS)}


def find_preset(name: str) -> Preset:
    """The preset of that name. Raises `ValueError` that lists the names there are."""
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def preset_for(task: str) -> Preset:
    """Our preset for a task. Raises `ValueError` where there is none."""
    found = next((preset for preset in OURS if task in preset.tasks), None)
    if found is None:
        raise ValueError(f"task {task!r} has no preset of ours; give --preset, one of {', '.join(PRESETS)}")
    return found
