"""`segue robot serve --protocol fci`, as a user starts it."""

import os
import random
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from launch.cli_robot import serve
from tests.launch.fci_client import Client

START = [sys.executable, "-m", "launch.cli", "robot", "serve", "--protocol", "fci", "--version", "10"]
HOST = f"127.{os.getpid() % 250 + 1}.{random.SystemRandom().randint(1, 254)}.9"
END_S = 30.0


def test_it_says_how_to_reach_it_serves_refuses_a_second_server_and_ends():
    server = subprocess.Popen([*START, "--host", HOST], stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        said = server.stderr.readline()
        assert f"--arm franky:{HOST},simulated" in said
        with closing(Client((HOST, 1337), 10)) as client:
            client.state()
        with pytest.raises(OSError, match="is another server running there"):
            serve("fci", 10, host=HOST)
        server.send_signal(signal.SIGTERM)
        assert server.wait(END_S) == 130
        assert "Traceback" not in server.stderr.read()
    finally:
        server.kill()
        server.wait(END_S)
        if server.stderr is not None:
            server.stderr.close()
