"""D4RL's normalised scores: 0 is a random policy, 100 D4RL's expert."""

# Returns of a random policy and of the expert, by the family that shares them; D4RL's `infos.py` (Apache-2.0).
REFERENCES = {
    "pen": (96.262799, 3076.8331017826877),
    "hammer": (-274.856578, 12794.134825156867),
    "door": (-56.512833, 2880.5693087298737),
    "relocate": (-6.425911, 4233.877797728884),
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
    "antmaze": (0.0, 1.0),
    "kitchen": (0.0, 4.0),
}
