"""What a command prints is what it found, whatever stands in it."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from launch import show

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def printed(value: dict) -> str:
    """What people see, on a terminal wide enough for it."""
    file = io.StringIO()
    Console(file=file, width=400).print(show._as_table(value))
    return file.getvalue()


@given(key=st.text(Z85, min_size=40, max_size=40))
def test_a_key_stands_there_whole(key):
    """Two characters of it may be brackets, which a terminal's markup swallows."""
    text = printed({"public key": key, "trusted": {"robot": key}, "machines": [{"name": "robot", "key": key}]})
    assert text.count(key) == 3


def test_a_key_of_the_kind_that_was_cut():
    assert "4l41z[j>z=]3{#aj" in printed({"key": "4l41z[j>z=]3{#aj", "closing": "[/x]"})
